"""The law of the whole benchmark: true objects give 100 % in every column of success, and none give 0 %."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted import GROUND, PAINT

from cloisonne.eval.detection.detector import Detection, Picture, distinct
from cloisonne.eval.detection.evaluate import evaluate_detected
from cloisonne.eval.detection.layouts import BoxLayout, Instance, LayoutList, interleaved
from cloisonne.eval.detection.measure import Judges
from cloisonne.eval.report import Report
from cloisonne.scene import Scene
from cloisonne.scene.shapes.geometry import pixel_window

SIDE = 64
CELLS = [(x, y) for y in (0, 0.5) for x in (0, 0.25, 0.5, 0.75)]
LABELS = ("cat", "dog", "apple", "car", "bird", "bus")


class ByColour:
    """Finds what is painted in the colour of each class, in an image without noise: its boxes are exact."""

    def __init__(self, colours: dict[str, str]) -> None:
        self.colours = colours

    def find(self, rgb: Picture, labels: Sequence[str]) -> dict[str, list[Detection]]:
        return {label: self._box(rgb, label) for label in labels}

    def classify(self, rgb: Picture, labels: Sequence[str]) -> str:
        return max(labels, key=lambda label: int(self._pixels(rgb, label).sum()))

    def _box(self, rgb: Picture, label: str) -> list[Detection]:
        rows, columns = np.nonzero(self._pixels(rgb, label))
        if not len(rows):
            return []
        ends = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        return distinct([[float(end) / SIDE for end in ends]], [0.9])

    def _pixels(self, rgb: Picture, label: str) -> np.ndarray:
        return (rgb == PAINT[self.colours[label]]).all(-1)


COLOURS = dict(zip(LABELS, PAINT, strict=False))


def layouts() -> LayoutList:
    """COCO-MIG's form: 2 to 6 objects in cells of their own, each class in its own colour."""
    found = []
    for k in range(20):
        rng = np.random.default_rng(k)
        cells = rng.permutation(len(CELLS))
        instances = []
        for place, label in zip(cells, rng.permutation(LABELS)[: 2 + k % 5], strict=False):
            x, y = CELLS[place]
            w, h = rng.integers(8, 16, 2) / SIDE
            colour = COLOURS[str(label)]
            box = (x, y, float(x + w), float(y + 2 * h))
            instances.append(Instance(label=str(label), phrase=f"a {colour} {label}", box=box, colour=colour))
        found.append(BoxLayout(index=0, caption=f"a photo {k}", instances=tuple(instances)))
    return LayoutList(name="coco-mig", layouts=interleaved(found), classes=LABELS, side=SIDE)


def paint(scene: Scene, method: str, seed: int) -> Picture:
    """Regions in the colour of their phrase; a scene without regions is empty."""
    rgb = np.full((SIDE, SIDE, 3), GROUND, np.uint8)
    for region in scene.regions:
        rgb[pixel_window(region.bounding_box(), SIDE, SIDE).slices] = PAINT[region.phrase.split()[1]]
    return rgb


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    judges = Judges(detector=ByColour(COLOURS), classes=LABELS, side=SIDE)
    out: Path = tmp_path_factory.mktemp("perfect")
    rows = ("bounded", "caption")
    return evaluate_detected(paint, judges, layouts(), out, methods=rows, report=lambda line: None)


def rows(report: Report, name: str) -> dict[str, list[Any]]:
    table = next(one for one in report.tables() if one.name == name)
    return {str(row[0]): list(row[1:]) for row in table.rows}


@pytest.mark.parametrize("name", ["mig-success", "mig-iou", "mig-colour"])
def test_true_objects_succeed_at_every_level(name: str, report: Report) -> None:
    found = rows(report, name)
    assert [(cell.value, cell.low, cell.high) for cell in found["bounded"]] == [(1, 1, 1)] * 6
    nothing = found["caption"]
    assert all(cell is None for cell in nothing) if name == "mig-colour" else all(cell.value == 0 for cell in nothing)


def test_true_objects_are_in_their_boxes(report: Report) -> None:
    found, crop, overlap, colour, leakage, somewhere = rows(report, "boxes")["bounded"]
    assert found.value == crop.value == overlap.value == colour.value == somewhere.value == 1
    assert leakage.value == 0
    found, _, overlap, colour, leakage, somewhere = rows(report, "boxes")["caption"]
    assert found.value == overlap.value == leakage.value == somewhere.value == 0
    assert colour is None


def test_the_difference_is_all(report: Report) -> None:
    success, overlap = rows(report, "mig-differences")["caption"]
    assert (success.value, overlap.value) == (-1, -1)
