"""The memory of the parent process over many scenes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import measured_batches
import pytest

GROWTH = 8 * 2**20
"""Bytes between the first tenth of the scenes and the end: names and hashes of finished images."""
NO_RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("images", "side", "ray"),
    [
        (10_000, 64, ()),
        pytest.param(10_000, 64, ("local",), marks=NO_RAY),
        (300, 512, ()),
        pytest.param(300, 512, ("local",), marks=NO_RAY),
    ],
)
def test_memory_is_flat_over_many_scenes(images: int, side: int, ray: tuple[str, ...], tmp_path: Path) -> None:
    """Small images, and those of 0.8 MB, which Ray keeps in its object store."""
    path = os.pathsep.join([str(Path(measured_batches.__file__).parent), *sys.path])
    command = [sys.executable, measured_batches.__file__, str(tmp_path), str(images), str(side), "2", *ray]
    run = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(next(line for line in run.stdout.splitlines() if line.startswith("{")))
    print({int(done): round(size / 2**20, 1) for done, size in found["memory"].items()}, found["milliseconds"])
    sizes = list(found["memory"].values())
    assert max(sizes) - sizes[0] < GROWTH
    assert found["again"] - sizes[0] < 2 * GROWTH
