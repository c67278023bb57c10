"""kill -9 of actors, of their driver and of a node of a Ray cluster: the union of the runs is the uninterrupted run."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray_kills


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.parametrize(("kills", "seed"), [(20, seed) for seed in range(5)])
def test_kills(kills: int, seed: int, tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(ray_kills.__file__).parent), *sys.path])
    command = [sys.executable, ray_kills.__file__, str(tmp_path), str(kills), str(seed)]
    run = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    count = json.loads(next(line for line in run.stdout.splitlines() if line.startswith("{")))
    print(count)
    assert count.keys() == {"worker", "parent", "node"}
    assert sum(count.values()) == kills
