"""Every test runs on one thread, from fixed seeds, without a network and without a clock."""

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# Read when torch and the hub's client are first imported, by us or by a command that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

# No deadline: the machine may be busy. Derandomized: a failure comes back on the next run and on every machine.
settings.register_profile("cloisonne", deadline=None, derandomize=True)
settings.load_profile("cloisonne")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Seed every global generator; torch only where a test has imported it, since its import takes seconds."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
        torch.manual_seed(0)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the current one, for what reads or writes relative paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
