"""A tiny image tower, and settings of runs of Paint by Example's training that take a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloisonne.train.exemplar.settings import Settings


@pytest.fixture(scope="session")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of an image tower for pictures of 28 x 28 pixels; diffusers gives its nine layers two mapper blocks."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(2)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=9,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    folder = tmp_path_factory.mktemp("tower")
    CLIPVisionModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def quick(tmp_path: Path, pictures: Path, tiny_sd: Path, tower: Path) -> Callable[..., Settings]:
    """Settings of a run of four steps on the tiny Stable Diffusion; keywords change them."""

    def made(**changes: Any) -> Settings:
        given: dict[str, Any] = {
            "base": str(tiny_sd),
            "data": str(pictures),
            "output": tmp_path / "out",
            "image_encoder": str(tower),
            "mapper_blocks": 2,
            "train_batch_size": 2,
            "max_train_steps": 4,
            "learning_rate": 1e-3,
            "device": "cpu",
        }
        return Settings(**given | changes)

    return made
