"""Batches of simulated images whose processes are killed at random moments, until as many kills as wanted are done."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from batches import check_whole, manifest, simulate, start, write_scenes

SCENES = 40
SECONDS = 0.01
"""For each image."""
WORKERS = 3
PARENT = "parent"
"""The kind of the process that the others end with."""

Targets = dict[str, list[int]]
"""Ids of the processes that may be killed, by kind."""


class Place(Protocol):
    """Where batches run."""

    def start(self, scenes: Path, folder: Path) -> "subprocess.Popen[str]":
        """Start a batch with simulated images."""
        ...

    def targets(self, process: int) -> Targets:
        """Its processes; nothing as long as it has no worker."""
        ...

    def repair(self, kind: str) -> None:
        """Replace what a batch does not replace itself."""
        ...


class ThisMachine:
    """Worker processes of this machine."""

    def start(self, scenes: Path, folder: Path) -> "subprocess.Popen[str]":
        return start(scenes, folder, WORKERS, SECONDS)

    def targets(self, process: int) -> Targets:
        """Each worker is started by a thread of its own."""
        workers: list[int] = []
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{process}/task"):
                with suppress(OSError):
                    workers += map(int, Path(f"/proc/{process}/task/{thread}/children").read_text().split())
        return {"worker": workers, PARENT: [process]} if workers else {}

    def repair(self, kind: str) -> None:
        """A batch replaces its workers."""


def lines_in(folder: Path) -> int:
    path = folder / "manifest.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed(
    process: "subprocess.Popen[str]", folder: Path, place: Place, count: Counter[str], rng: random.Random
) -> str:
    """Kill one process, some images and milliseconds later. Returns its kind; "" if the batch ended before.

    count: kills of each kind before; it is one of those with the fewest.
    """
    target = lines_in(folder) + rng.randrange(6)
    while process.poll() is None and (lines_in(folder) < target or not place.targets(process.pid)):
        time.sleep(0.001)
    time.sleep(rng.random() * 2 * SECONDS)
    targets = place.targets(process.pid)
    if not targets or process.poll() is not None:
        return ""
    fewest = min(count[kind] for kind in targets)
    kind = rng.choice(sorted(kind for kind in targets if count[kind] == fewest))
    with suppress(ProcessLookupError):
        os.kill(rng.choice(targets[kind]), signal.SIGKILL)
    if kind == PARENT:
        process.communicate()
        _wait_for_ends(targets["worker"])
    place.repair(kind)
    return kind


def _wait_for_ends(workers: list[int]) -> None:
    by = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < by, "a worker outlives its parent"
        time.sleep(0.01)


def finished(scenes: Path, folder: Path, place: Place, kills: int, rng: random.Random) -> Counter[str]:
    """Run a batch to its end, in as many calls as that takes. Returns the number of kills of each kind."""
    count: Counter[str] = Counter()
    while True:
        process = place.start(scenes, folder)
        last = "none"
        while last not in ("", PARENT) and count.total() < kills:
            last = killed(process, folder, place, count, rng)
            count.update([last] if last else [])
        _, err = process.communicate()
        if last == PARENT or "WorkersEnded" in err:  # which so many kills may lead to
            continue
        assert process.returncode == 0, err
        if count.total() >= kills:
            return count
        check_whole(folder)
        _again(folder)


def _again(folder: Path) -> None:
    """Delete the images of a finished run, so that more kills can follow."""
    for path in [*folder.glob("*.png"), folder / "manifest.jsonl"]:
        path.unlink()


def check_kills(folder: Path, place: Place, kills: int, seed: int) -> Counter[str]:
    """Kill processes of batches; the union of the runs is the uninterrupted run. Returns the kills of each kind."""
    scenes = write_scenes(folder / "s.jsonl", SCENES)
    simulate(scenes, folder / "whole")
    count = finished(scenes, folder / "killed", place, kills, random.Random(seed))
    assert simulate(scenes, folder / "killed").failed == ()
    assert check_whole(folder / "killed") == check_whole(folder / "whole")
    lines = [sorted(map(str, manifest(folder / name))) for name in ("killed", "whole")]
    assert lines[0] == lines[1]
    return count
