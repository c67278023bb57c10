"""Agreement of a data set with its images: true world images agree, and those of other scenes do not."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import simulate
from detectors import write_owl
from PIL import Image, PngImagePlugin

from cloisonne.errors import CheckpointError, SceneError
from cloisonne.eval.detection.agreement import detector_finder, glyph_of
from cloisonne.eval.detection.detector import Detection
from cloisonne.eval.layouts import layouts
from cloisonne.pipelines.batches.agreement import write_agreement
from cloisonne.pipelines.batches.run import Settings
from cloisonne.scene.io.png_record import KEY

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of world layouts, whose images are replaced by the layouts' true ones."""
    folder = tmp_path_factory.mktemp("agreement") / "out"
    size = {"width": 128, "height": 128}
    simulate({f"{k:02}": layouts()[k].scene().replace(**size) for k in range(COUNT)}, folder, dataset=True)
    return folder


def with_images(folder: Path, target: Path, order: list[int]) -> Path:
    """A copy of a data set, with the true images of layouts in this order."""
    shutil.copytree(folder, target)
    for place, k in enumerate(order):
        path = target / f"{place:02}.png"
        with Image.open(path) as image:
            record = image.info[KEY]
        info = PngImagePlugin.PngInfo()
        info.add_itxt(KEY, record)
        Image.fromarray(layouts()[k].truth().rgb).save(path, pnginfo=info)
    return target


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "agreement.jsonl").read_text().splitlines()]


def test_true_images_agree_and_others_do_not(folder: Path, tmp_path: Path) -> None:
    true = write_agreement(with_images(folder, tmp_path / "true", list(range(COUNT))), "builtin")
    other = write_agreement(with_images(folder, tmp_path / "other", [(k + 5) % COUNT for k in range(COUNT)]), "builtin")
    assert true["annotations"] == other["annotations"] == sum(len(layouts()[k].regions) for k in range(COUNT))
    assert true["found"] / true["judged"] > 0.8
    assert other["found"] / other["judged"] < 0.2
    assert true["mean_iou"] > 0.7 > 0.3 > other["mean_iou"]


def test_lines_and_summary_are_about_the_annotations(folder: Path, tmp_path: Path) -> None:
    own = with_images(folder, tmp_path / "own", list(range(COUNT)))
    summary = write_agreement(own, "builtin")
    assert json.loads((own / "agreement.json").read_text()) == summary
    data = json.loads((own / "annotations.json").read_text())
    files = {image["id"]: image["file_name"] for image in data["images"]}
    asked = [(files[one["image_id"]], one["id"], one["caption"]) for one in data["annotations"]]
    assert [(line["file"], line["annotation"], line["category"]) for line in lines(own)] == asked
    judged = [line["iou"] for line in lines(own) if line["iou"] is not None]
    assert summary["judged"] == len(judged)
    assert summary["found"] == sum(overlap >= 0.5 for overlap in judged)
    assert summary["mean_iou"] == pytest.approx(np.mean(judged))
    assert sum(one["found"] for one in summary["categories"].values()) == summary["found"]


class Boxes:
    """A detector that finds what it is given."""

    def __init__(self, found: dict[str, list[Detection]]) -> None:
        self.found = found

    def find(self, rgb: Any, labels: Any) -> dict[str, list[Detection]]:
        return {label: self.found.get(label, []) for label in labels}

    def classify(self, rgb: Any, labels: Any) -> str:
        raise AssertionError("no crop is classified")


def test_the_nearest_object_of_the_phrase_counts() -> None:
    boxes = [Detection((0.0, 0.0, 0.5, 0.5), 0.9), Detection((0.5, 0.5, 1.0, 1.0), 0.1)]
    find = detector_finder(Boxes({"red cat": boxes}))
    rgb = np.zeros((8, 8, 3), np.uint8)
    labels = [
        ("a red cat", (0.5, 0.5, 1.0, 1.0)),
        ("the red cat", (0.0, 0.0, 0.5, 1.0)),
        ("a dog", (0.0, 0.0, 1.0, 1.0)),
    ]
    assert find(rgb, labels) == [1.0, 0.5, 0.0]
    assert find(rgb, []) == []


def test_a_published_detector_judges(folder: Path, tmp_path: Path) -> None:
    """The files of OWLv2, with random weights: every annotation is judged."""
    judge = write_owl(tmp_path / "owl")
    summary = write_agreement(with_images(folder, tmp_path / "own", list(range(COUNT))), str(judge))
    assert summary["judged"] == summary["annotations"]


@pytest.mark.parametrize(
    ("phrase", "glyph"),
    [
        ("a red cat", "🐱"),
        ("two birthday cakes", None),
        ("a birthday cake", "🎂"),
        ("a cat and a dog", None),
        ("", None),
    ],
)
def test_phrases_of_the_world(phrase: str, glyph: str | None) -> None:
    found = glyph_of(phrase)
    assert (found is None) == (glyph is None)
    if glyph == "🎂":
        assert found == glyph


def test_a_judge_needs_a_data_set_and_is_one() -> None:
    with pytest.raises(SceneError, match="add dataset=True"):
        Settings(judge="builtin")
    with pytest.raises(CheckpointError, match='no judge "nobody"'):
        Settings(judge="nobody", dataset=True)
