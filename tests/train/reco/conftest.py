"""Small pictures with annotations, and settings of runs that take a second."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloisonne.train.reco.settings import Settings


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps its choices for the whole process, and a process is one run."""
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of 96 x 64 pixels, each with a red box on the left and a blue one on the right, captioned."""
    folder = tmp_path_factory.mktemp("pictures")
    images, annotations = [], []
    rng = np.random.default_rng(0)
    for k in range(6):
        rgb = np.full((64, 96, 3), 40 * k, np.uint8)
        rgb[8 + k : 40 + k, 8:40] = (255, 0, 0)
        rgb[16:48, 50 + k : 82 + k] = (0, 0, 255)
        rgb = np.clip(rgb + rng.normal(0, 4, rgb.shape), 0, 255).astype(np.uint8)
        Image.fromarray(rgb).save(folder / f"{k}.png")
        images.append(
            {"id": k, "file_name": f"{k}.png", "width": 96, "height": 64, "caption": "a red square on the left"}
        )
        annotations += [
            {"image_id": k, "bbox": [8, 8 + k, 32, 32], "caption": "red left"},
            {"image_id": k, "bbox": [50 + k, 16, 32, 32], "category_id": 1},
        ]
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "blue"}]}
    (folder / "annotations.json").write_text(json.dumps(coco))
    return folder


@pytest.fixture
def quick(tmp_path: Path, pictures: Path, tiny_sd: Path) -> Callable[..., Settings]:
    """Settings of a run of four steps on the tiny Stable Diffusion; keywords change them."""

    def made(**changes: Any) -> Settings:
        given: dict[str, Any] = {
            "base": str(tiny_sd),
            "data": str(pictures),
            "output": tmp_path / "out",
            "train_batch_size": 2,
            "max_train_steps": 4,
            "learning_rate": 1e-3,
            "num_bins": 16,
            "max_length": 128,
            "device": "cpu",
        }
        return Settings(**given | changes)

    return made
