"""Time and memory of a batch of simulated images, as JSON: ``measured_batches.py FOLDER IMAGES SIDE WORKERS [local]``.

With "local", on a Ray cluster of this machine.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from batches import check_whole, simulate, write_scenes

from cloisonne.pipelines.batches.progress import BatchProgress

PARTS = 10
"""Moments at which the memory is read."""


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    folder, images, side, workers, *ray = sys.argv[1:]
    count, memory = int(images), dict[int, int]()
    scenes = write_scenes(Path(folder) / "s.jsonl", count, width=int(side), height=int(side))
    times: list[float] = []

    def measure(event: BatchProgress) -> None:
        times.append(time.perf_counter())
        if event.done % (count // PARTS) == 0:
            memory[event.done] = resident()

    given: dict[str, Any] = {"workers": int(workers), "on_image": measure}
    if ray:
        from ray_batches import on_ray

        report = on_ray(scenes, Path(folder) / "out", **given)
    else:
        report = simulate(scenes, Path(folder) / "out", **given)
    assert (report.generated, report.failed) == (count, ())
    check_whole(Path(folder) / "out")
    again = simulate(scenes, Path(folder) / "out")
    assert (again.generated, again.present) == (0, count)
    milliseconds = 1000 * (times[-1] - times[0]) / (count - 1)
    print(json.dumps({"milliseconds": milliseconds, "memory": memory, "again": resident()}))


if __name__ == "__main__":
    main()
