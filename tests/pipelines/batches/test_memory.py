"""The memory of the parent process over many scenes."""

import os
from pathlib import Path

import pytest
from batches import simulate, write_scenes

from cloisonne.pipelines.batches.progress import BatchProgress

SCENES = 10_000
GROWTH = 8 * 2**20
"""Bytes between the first tenth of the scenes and the end: names and hashes of finished images."""


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_is_flat_over_many_scenes(tmp_path: Path) -> None:
    at: dict[int, int] = {}

    def measure(event: BatchProgress) -> None:
        if event.done in (SCENES // 10, SCENES):
            at[event.done] = resident()

    report = simulate(write_scenes(tmp_path / "s.jsonl", SCENES), tmp_path / "out", workers=2, on_image=measure)
    assert report.generated == SCENES
    assert at[SCENES] - at[SCENES // 10] < GROWTH
    assert simulate(tmp_path / "s.jsonl", tmp_path / "out").present == SCENES
    assert resident() - at[SCENES // 10] < 2 * GROWTH
    print(f"{(at[SCENES] - at[SCENES // 10]) / 2**20:.1f} MiB, {1000 * report.seconds / SCENES:.1f} ms an image")
