"""Every test runs on one thread, from fixed seeds, without a network and without a clock.

Networks for tests are real and tiny: folders in the layout of the built-in family, and in that of Stable Diffusion.
"""

import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import shape_checks
from hypothesis import settings

# From here on, calls are checked against the shapes and types of signatures.
shape_checks.install()

from tiny import write_checkpoint, write_xl  # noqa: E402

if TYPE_CHECKING:
    from cloisonne.models.model import Model

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
    np.random.seed(0)  # noqa: NPY002
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
        torch.manual_seed(0)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the current one, for what reads or writes relative paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny_family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the built-in family's: 64 x 64 pixels on 8 x 8 latents, position tokens, v-prediction."""
    return write_checkpoint(
        tmp_path_factory.mktemp("family"),
        bins=16,
        vae={"in_channels": 48, "out_channels": 48, "block_out_channels": (8, 8), "shift_factor": 0.1},
        scheduler={"prediction_type": "v_prediction", "timestep_spacing": "trailing", "steps_offset": 0},
        native={"width": 64, "height": 64, "steps": 3, "guidance": 4.0, "sampler": "ddim", "method": "reco"},
    )


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like Stable Diffusion 1.x: a vae on plain RGB, noise prediction, no position tokens."""
    return write_checkpoint(
        tmp_path_factory.mktemp("sd"),
        bins=0,
        scheduler={"prediction_type": "epsilon", "timestep_spacing": "leading"},
    )


@pytest.fixture(scope="session")
def tiny_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like Stable Diffusion XL: two text encoders, pooled text and size conditioning."""
    return write_xl(tmp_path_factory.mktemp("xl"))


@pytest.fixture(scope="session")
def tiny(tiny_family: Path) -> "Model":
    """The tiny family, loaded."""
    from cloisonne.models.load import load

    return load(tiny_family)
