"""Workers as actors of a Ray cluster, on this machine or on many, each with a model of its own.

The images come back to this process, which alone writes files, so the machines need no common disk; they need this
package and the model.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloisonne.errors import CapabilityError, CheckpointError, CloisonneError
from cloisonne.pipelines.batches.manifest import Maker
from cloisonne.pipelines.batches.ray_cluster import library
from cloisonne.pipelines.batches.requests import ImageRequest, WorkerEnded

POLL = 0.5
"""Seconds after which a worker that waits for its place in the cluster notices that it is not needed."""


class _Actor:
    """The process of a worker."""

    def __init__(self, load: Callable[..., Any]) -> None:
        self._load = load
        self._generator: Any = None

    def open(self, spec: Mapping[str, Any], threads: int) -> dict[str, Any]:
        """Load the model. Returns what makes the images, or why it is refused."""
        try:
            self._generator = self._load(spec, threads=threads, place=0)
        except CloisonneError as error:
            return {"refused": str(error), "checkpoint": isinstance(error, CheckpointError)}
        return {"maker": self._generator.maker()}

    def generate(self, requests: Sequence[Mapping[str, Any]], folder: str) -> list[tuple[dict[str, Any], bytes]]:
        """Answer requests."""
        return list(self._generator.generate(requests, Path(folder)))


@dataclass(kw_only=True, eq=False)
class RayWorker:
    """A worker in a Ray cluster, to which this process is connected.

    Attributes:
        spec: of the model, as JSON values.
        folder: where the images will be.
        threads: of the processor.
        load: makes what generates; None is the real one.
    """

    spec: Mapping[str, Any]
    folder: Path
    threads: int
    load: Callable[..., Any] | None = None
    _actor: Any = field(default=None, init=False)
    _killed: bool = field(default=False, init=False)

    def open(self) -> Maker:
        """Start the actor and load the model. Raises CheckpointError, CapabilityError or WorkerEnded."""
        from cloisonne.pipelines.batches.generator import ImageGenerator

        self.close()
        on_gpu = str(self.spec.get("device", "cpu")).startswith("cuda")
        environment = {"OMP_NUM_THREADS": str(self.threads), "OMP_WAIT_POLICY": "PASSIVE"}
        options = {"num_cpus": self.threads, "num_gpus": int(on_gpu), "runtime_env": {"env_vars": environment}}
        self._actor = library().remote(_Actor).options(**options).remote(self.load or ImageGenerator)
        message = self._answer(self._actor.open.remote(dict(self.spec), self.threads))
        if "refused" in message:
            raise (CheckpointError if message["checkpoint"] else CapabilityError)(message["refused"])
        return Maker(**message["maker"])

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[tuple[dict[str, Any], bytes]]:
        """For each request in turn its message and PNG. Raises WorkerEnded."""
        scenes = [{"scene": request.scene.to_dict()} for request in requests]
        yield from self._answer(self._actor.generate.remote(scenes, str(self.folder)))

    def _answer(self, reference: Any) -> Any:
        ray = library()
        while not self._killed and not ray.wait([reference], timeout=POLL)[0]:
            continue
        if self._killed:
            raise WorkerEnded("it was stopped")
        try:
            return ray.get(reference)
        except ray.exceptions.RayError as error:
            if isinstance(error, ray.exceptions.RayTaskError):
                raise
            raise WorkerEnded(type(error).__name__) from None

    def kill(self) -> None:
        """End the actor, from any thread; it is not opened again."""
        self._killed = True

    def close(self) -> None:
        """End the actor."""
        ray = library()
        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None
