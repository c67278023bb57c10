"""kill -9 of workers and of their parent at random moments: the union of the runs is the uninterrupted run."""

from pathlib import Path

import pytest
from killed_batches import ThisMachine, check_kills


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the children of a process are read from /proc")
@pytest.mark.parametrize(
    ("kills", "seed"), [(4, 0), *(pytest.param(20, seed, marks=pytest.mark.slow) for seed in range(10))]
)
def test_kills(kills: int, seed: int, tmp_path: Path) -> None:
    assert check_kills(tmp_path, ThisMachine(), kills, seed).keys() == {"worker", "parent"}
