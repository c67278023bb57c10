"""Generates requested images with a loaded model, in a worker. The bytes are those of ``generate`` and its ``save``."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cloisonne.errors import CloisonneError
from cloisonne.models.model_spec import ModelSpec
from cloisonne.scene.io.infotext import infotext
from cloisonne.scene.io.output import png_bytes
from cloisonne.scene.scene import Scene

Answer = tuple[dict[str, Any], bytes]


class ImageGenerator:
    """A loaded model.

    Args:
        spec: of the model, as JSON values.
        threads: of the processor.
        place: index of the worker; of several GPUs each worker uses one.

    Raises:
        CheckpointError, CapabilityError: the model cannot be loaded.
    """

    def __init__(self, spec: Mapping[str, Any], *, threads: int, place: int) -> None:
        import torch

        from cloisonne.models.load import load

        torch.set_num_threads(threads)
        wanted = ModelSpec.from_dict(spec)
        if wanted.device == "cuda" and (count := torch.cuda.device_count()):
            torch.cuda.set_device(place % count)
        self.model = load(wanted)
        self._threads = threads

    def maker(self) -> dict[str, Any]:
        """The fields of :class:`~cloisonne.pipelines.batches.manifest.Maker`."""
        about = self.model.record()
        return {
            "model": about["sha256"],
            "device": about["device"],
            "dtype": about["dtype"],
            "threads": self._threads,
        }

    def generate(self, requests: Sequence[Mapping[str, Any]], folder: Path) -> Iterator[Answer]:
        """For each request (``scene``: its object) a message and the PNG; "error" where there is none.

        On a GPU, scenes share their forward passes; if that fails, each is generated alone, so that a refused scene
        does not stop the others. folder: where the files will be; paths in their records start there.
        """
        results: list[Any] = []
        if len(requests) > 1:
            try:
                results = self._results([Scene.from_dict(one["scene"]) for one in requests])
            except (CloisonneError, RuntimeError, MemoryError):
                results = []
        for place, request in enumerate(requests):
            try:
                result = results[place] if results else self._results([Scene.from_dict(request["scene"])])[0]
                yield _answer(result, folder)
            except (CloisonneError, RuntimeError, MemoryError, OSError) as error:
                yield {"error": sentence(error)}, b""

    def _results(self, scenes: list[Scene]) -> list[Any]:
        from cloisonne.pipelines.generate import generate_many

        return generate_many(scenes, self.model)


def _answer(result: Any, folder: Path) -> Answer:
    from cloisonne.pipelines.output.files import record_of

    record = record_of(result.scene, result.model, folder, True)
    png = png_bytes(result.image, record=record, parameters=infotext(result.scene, record))
    width, height = result.image.size
    return {
        "width": width,
        "height": height,
        "dropped": list(result.report["dropped"]),
        "warnings": list(result.report["warnings"]),
    }, png


def sentence(error: Exception) -> str:
    """The sentence about an error, as on the command line."""
    if isinstance(error, CloisonneError):
        return str(error)
    reason = str(error).strip().splitlines()
    return f"The run failed: {reason[0] if reason else type(error).__name__}"
