"""Batches on a Ray cluster of this machine with simulated images: ``ray_batches.py FOLDER`` prints JSON of results."""

import functools
import ipaddress
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batches import check_whole, simulate, write_scenes
from simulated_worker import Simulated

from cloisonne.errors import CheckpointError
from cloisonne.models.model_spec import ModelSpec
from cloisonne.pipelines.batches import ray_worker
from cloisonne.pipelines.batches.progress import BatchProgress
from cloisonne.pipelines.batches.ray_cluster import connect
from cloisonne.pipelines.batches.run import BatchReport, Settings, asked_of, run

SCENES = 20


class SimulatedRayWorker(ray_worker.RayWorker):
    """A worker with simulated images.

    Attributes:
        seconds: for each image.
    """

    seconds = 0.0

    def __init__(self, **given: Any) -> None:
        super().__init__(load=functools.partial(Simulated, seconds=self.seconds), **given)


def on_ray(
    scenes: Path,
    folder: Path,
    workers: int = 2,
    on_image: Any = None,
    source: str = "builtin",
    address: str = "local",
    worker: type[SimulatedRayWorker] = SimulatedRayWorker,
) -> BatchReport:
    ray_worker.RayWorker = worker  # type: ignore[misc]
    asked, spec = asked_of(scenes, ModelSpec(source), {}, folder, 1)
    return run(asked, spec, folder, Settings(workers=workers, ray=address), on_image)


def actors() -> list[int]:
    """Processes of the workers."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"ray::_Actor" in process.read_bytes():
                found.append(int(process.parent.name))
        except OSError:
            continue
    return found


def killer(killed: set[int]) -> Callable[[BatchProgress], None]:
    """An ``on_image`` that kills a worker after every fifth image."""

    def kill(event: BatchProgress) -> None:
        if event.done % 5 == 0 and (alive := [one for one in actors() if one not in killed]):
            killed.add(alive[0])
            os.kill(alive[0], signal.SIGKILL)

    return kill


def stranger(address: str) -> int:
    """The exit code of a process that connects to the cluster with another token."""
    program = f"import ray; ray.init(address={address!r})"
    environment = os.environ | {"RAY_AUTH_TOKEN": "0" * 64}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True).returncode


def descendants(process: int) -> set[int]:
    """Processes that a process started, and those that they started."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, before = {process}, set[int]()
    while found != before:
        before, found = found, found | {child for child, parent in parents.items() if parent in found}
    return found


def listening() -> set[tuple[str, int]]:
    """Addresses and ports on which this process and those that it started wait for TCP connections."""
    sockets = set()
    for process in descendants(os.getpid()):
        for file in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(os.readlink(file))
            except OSError:
                continue
    found = set[tuple[str, int]]()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                host, _, port = fields[1].partition(":")
                raw = bytes.fromhex(host)
                address = ipaddress.ip_address(b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4)))
                mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
                found.add((str(mapped or address), int(port, 16)))
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    scenes = write_scenes(folder / "s.jsonl", SCENES)
    connect("local", cpus=2, label="--ray")
    simulate(scenes, folder / "alone")
    alone, killed, found = check_whole(folder / "alone"), set[int](), dict[str, Any]()
    # More workers than the cluster has room for wait, and end with the others.
    for name, workers, on_image in (("two", 2, None), ("five", 5, None), ("killed", 2, killer(killed))):
        report = on_ray(scenes, folder / name, workers, on_image)
        found[name] = [report.generated, report.failed, check_whole(folder / name) == alone]
    found["again"] = on_ray(scenes, folder / "two").present
    found["kills"] = len(killed)
    (folder / "absent").mkdir()
    os.chdir(folder)
    try:
        on_ray(scenes, folder / "refused", source="absent")
    except CheckpointError as error:
        found["refused"] = str(error)
    import ray

    node = ray._private.worker.global_worker.node
    found["dashboard"] = node.address_info["webui_url"]
    found["stranger"] = stranger(ray.get_runtime_context().gcs_address)
    found["listening"] = sorted(listening())
    found["token"] = [os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
