"""Settings of runs of localized control's training that take a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloisonne.train.control.settings import Settings


@pytest.fixture
def quick(tmp_path: Path, pictures: Path, tiny_sd: Path) -> Callable[..., Settings]:
    """Settings of a run of four steps on the tiny Stable Diffusion; keywords change them."""

    def made(**changes: Any) -> Settings:
        given: dict[str, Any] = {
            "base": str(tiny_sd),
            "data": str(pictures),
            "output": tmp_path / "out",
            "num_res_blocks": 1,
            "train_batch_size": 2,
            "max_train_steps": 4,
            "learning_rate": 1e-3,
            "device": "cpu",
        }
        return Settings(**given | changes)

    return made
