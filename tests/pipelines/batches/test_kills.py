"""kill -9 of workers and of their parent at random moments: the union of the runs is the uninterrupted run."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from batches import check_whole, manifest, simulate, start, write_scenes

SCENES = 40
SECONDS = 0.01
"""For each image."""
WORKERS = 3


def workers_of(pid: int) -> list[int]:
    """The children of all threads of a batch: each worker is started by a thread of its own."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def lines_in(folder: Path) -> int:
    path = folder / "manifest.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def killed(process: "subprocess.Popen[str]", folder: Path, rng: random.Random) -> str:
    """Kill the parent, or a worker, some images and milliseconds later. Returns which; "" if the batch ended before."""
    target = lines_in(folder) + rng.randrange(6)
    while process.poll() is None and (lines_in(folder) < target or not workers_of(process.pid)):
        time.sleep(0.001)
    time.sleep(rng.random() * 2 * SECONDS)
    workers = workers_of(process.pid)
    if not workers or process.poll() is not None:
        return ""
    if rng.random() < 0.5:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
        return "worker"
    process.kill()
    process.communicate()
    gone_by = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < gone_by, "a worker outlives its parent"
        time.sleep(0.01)
    return "parent"


def finished(scenes: Path, folder: Path, kills: int, rng: random.Random) -> Counter[str]:
    """Run a batch to its end, in as many calls as that takes. Returns the number of kills of each kind."""
    count: Counter[str] = Counter()
    while True:
        process = start(scenes, folder, WORKERS, SECONDS)
        last = "none"
        while last not in ("", "parent") and count.total() < kills:
            last = killed(process, folder, rng)
            count.update([last] if last else [])
        _, err = process.communicate()
        if last == "parent" or "WorkersEnded" in err:  # which so many kills may lead to
            continue
        assert process.returncode == 0, err
        if count.total() >= kills:
            return count
        _again(folder)


def _again(folder: Path) -> None:
    """Delete the images of a finished run, so that more kills can follow."""
    for path in [*folder.glob("*.png"), folder / "manifest.jsonl"]:
        path.unlink()


def check_kills(tmp_path: Path, kills: int, seed: int) -> None:
    scenes = write_scenes(tmp_path / "s.jsonl", SCENES)
    simulate(scenes, tmp_path / "whole")
    assert finished(scenes, tmp_path / "killed", kills, random.Random(seed)).keys() == {"worker", "parent"}
    assert simulate(scenes, tmp_path / "killed").failed == ()
    assert check_whole(tmp_path / "killed") == check_whole(tmp_path / "whole")
    lines = [sorted(map(str, manifest(tmp_path / folder))) for folder in ("killed", "whole")]
    assert lines[0] == lines[1]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the children of a process are read from /proc")
def test_some_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, 4, 0)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the children of a process are read from /proc")
@pytest.mark.parametrize("seed", range(10))
def test_many_kills(seed: int, tmp_path: Path) -> None:
    check_kills(tmp_path, 20, seed)
