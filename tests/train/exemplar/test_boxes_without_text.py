"""Boxes without text suffice for exemplar training only."""

import json
from pathlib import Path

import pytest

from cloisonne.errors import TrainingError
from cloisonne.train.datasets.coco import CocoDataset


@pytest.fixture
def boxes_only(tmp_path: Path, pictures: Path) -> Path:
    (tmp_path / "0.png").write_bytes((pictures / "0.png").read_bytes())
    coco = {
        "images": [{"id": 0, "file_name": "0.png", "width": 96, "height": 64}],
        "annotations": [{"image_id": 0, "bbox": [8, 8, 32, 32]}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(coco))
    return tmp_path


def test_exemplar_training_accepts_boxes_without_text(boxes_only: Path) -> None:
    dataset = CocoDataset(boxes_only, image_only=True)
    assert len(dataset) == 1
    assert dataset.has_box(0, 0.02, 0.8)
    assert not dataset.has_box(0, 0.5, 0.8)


def test_other_trainings_need_text(boxes_only: Path) -> None:
    with pytest.raises(TrainingError, match="caption"):
        CocoDataset(boxes_only)
