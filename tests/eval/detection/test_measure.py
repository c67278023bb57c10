"""Laws of the figures: true boxes give 100 %, boxes elsewhere 0 %, and each figure depends on its own cause."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from painted import GROUND, PAINT

from cloisonne.eval.detection.colours import HSV, SHARE, share
from cloisonne.eval.detection.detector import Detection, Mask, Picture
from cloisonne.eval.detection.layouts import BoxLayout, Instance
from cloisonne.eval.detection.measure import MARGIN, Judges, leakage
from cloisonne.eval.detection.spatial import LEFT, RIGHT
from cloisonne.scene import Box
from cloisonne.scene.shapes.geometry import iou, pixel_window

LABELS = ("cat", "dog", "apple")


@dataclass(frozen=True)
class Given:
    """Detections as values: boxes by class, and the class of every crop by its size."""

    boxes: dict[str, list[Detection]]
    crops: dict[tuple[int, int], str]

    def find(self, rgb: Picture, labels: Sequence[str]) -> dict[str, list[Detection]]:
        return {label: self.boxes.get(label, []) for label in labels}

    def classify(self, rgb: Picture, labels: Sequence[str]) -> str:
        return self.crops.get(rgb.shape[:2], "nothing")


@st.composite
def layouts(draw: st.DrawFn) -> BoxLayout:
    instances = []
    for _ in range(draw(st.integers(1, 4))):
        x, y = draw(st.integers(0, 40)), draw(st.integers(0, 40))
        box = (x / 64, y / 64, (x + draw(st.integers(8, 24))) / 64, (y + draw(st.integers(8, 24))) / 64)
        label, colour = draw(st.sampled_from(LABELS)), draw(st.sampled_from([None, *HSV]))
        instances.append(Instance(label=label, phrase=f"a {colour or ''} {label}", box=box, colour=colour))
    return BoxLayout(index=0, caption="", instances=tuple(instances))


def truth(layout: BoxLayout) -> Given:
    boxes: dict[str, list[Detection]] = {}
    for one in layout.instances:
        boxes.setdefault(one.label, []).append(Detection(one.box, 0.9))
    windows = [(pixel_window(one.box, 64, 64), one.label) for one in layout.instances]
    return Given(boxes, {(window.height, window.width): label for window, label in windows})


def painted(layout: BoxLayout) -> Picture:
    rgb = np.full((64, 64, 3), GROUND, np.uint8)
    for one in layout.instances:
        rgb[pixel_window(one.box, 64, 64).slices] = PAINT[one.colour or "red"]
    return rgb


def figures(layout: BoxLayout, detector: Given, rgb: Picture, **options: Any) -> list[dict[str, Any]]:
    return Judges(detector=detector, classes=LABELS, **options)(rgb, layout)["regions"]


@given(layouts())
def test_true_boxes_are_found_everywhere(layout: BoxLayout) -> None:
    for one, own in zip(layout.instances, figures(layout, truth(layout), painted(layout)), strict=True):
        assert own["found"]
        assert own["somewhere"]
        assert own["iou"] == 1
        assert own["leakage"] == 0
        # Later objects may be painted over this one.
        mask = np.zeros((64, 64), bool)
        mask[pixel_window(one.box, 64, 64).slices] = True
        right = one.colour is None or share(painted(layout), mask, one.colour) >= SHARE
        assert own["success"] == right
        assert own["colour"] == (None if one.colour is None else right)
        assert own["mig_iou"] == (1 if right else 0)


@given(layouts())
def test_nothing_found_is_nothing(layout: BoxLayout) -> None:
    for own in figures(layout, Given({}, {}), painted(layout)):
        assert not own["found"]
        assert not own["success"]
        assert not own["somewhere"]
        assert not own["crop"]
        assert own["colour"] is None
        assert own["iou"] == own["mig_iou"] == own["leakage"] == 0


@given(layouts(), st.integers(-16, 16), st.integers(-16, 16))
def test_moved_boxes_have_their_iou(layout: BoxLayout, dx: int, dy: int) -> None:
    one = layout.instances[0]
    alone = replace(layout, instances=(one,))
    x0, y0, x1, y1 = one.box
    moved = (x0 + dx / 64, y0 + dy / 64, x1 + dx / 64, y1 + dy / 64)
    (own,) = figures(alone, Given({one.label: [Detection(moved, 0.5)]}, {}), painted(alone))
    overlap = iou(moved, one.box)
    assert own["iou"] == overlap
    assert own["found"] == (overlap >= 0.5)
    assert own["somewhere"]
    assert own["success"] == (own["found"] and own["colour"] is not False)
    if not own["found"]:
        assert own["colour"] is None
        assert own["mig_iou"] == overlap


@given(layouts())
def test_crops_are_classified_alone(layout: BoxLayout) -> None:
    detector = truth(layout)
    for one, own in zip(layout.instances, figures(layout, detector, painted(layout)), strict=True):
        window = pixel_window(one.box, 64, 64)
        assert own["crop"] == (detector.crops[window.height, window.width] == one.label)


@pytest.mark.parametrize("wanted", HSV)
@pytest.mark.parametrize("shown", HSV)
def test_success_needs_place_and_colour(wanted: str, shown: str) -> None:
    one = Instance(label="cat", phrase=f"a {wanted} cat", box=(0.25, 0.25, 0.75, 0.75), colour=wanted)
    layout = BoxLayout(index=0, caption="", instances=(one,))
    rgb = painted(replace(layout, instances=(replace(one, colour=shown),)))
    (own,) = figures(layout, truth(layout), rgb)
    assert own["found"]
    assert own["success"] == own["colour"] == (wanted == shown)
    assert own["mig_iou"] == float(wanted == shown)
    assert own["iou"] == 1


def test_colours_are_measured_in_the_mask_of_the_requested_box() -> None:
    """The object fills a sixteenth of its box: too little of the box, but all of its mask."""
    one = Instance(label="cat", phrase="a red cat", box=(0.25, 0.25, 0.75, 0.75), colour="red")
    layout = BoxLayout(index=0, caption="", instances=(one,))
    rgb = np.full((64, 64, 3), GROUND, np.uint8)
    rgb[16:24, 16:24] = PAINT["red"]
    asked: list[Sequence[Box]] = []

    def segmenter(rgb: Picture, boxes: Sequence[Box]) -> list[Mask]:
        asked.append(boxes)
        return [(rgb == PAINT["red"]).all(-1) for _ in boxes]

    shifted = Given({"cat": [Detection((0.25, 0.25, 0.7, 0.75), 0.9)]}, {})
    assert not figures(layout, shifted, rgb)[0]["success"]
    assert figures(layout, shifted, rgb, segmenter=segmenter)[0]["success"]
    assert asked == [[one.box]]


def test_images_are_judged_at_the_benchmark_s_size() -> None:
    sizes: list[tuple[int, ...]] = []

    class Sized(Given):
        def find(self, rgb: Picture, labels: Sequence[str]) -> dict[str, list[Detection]]:
            sizes.append(rgb.shape)
            return super().find(rgb, labels)

    one = Instance(label="cat", phrase="a cat", box=(0, 0, 1, 1))
    layout = BoxLayout(index=0, caption="", instances=(one,))
    for side in (None, 32, 64):
        figures(layout, Sized({}, {}), np.zeros((64, 48, 3), np.uint8), side=side)
    assert sizes == [(64, 48, 3), (32, 32, 3), (64, 64, 3)]


@given(st.lists(st.tuples(*[st.integers(0, 16)] * 4), max_size=4), st.lists(st.tuples(*[st.integers(0, 16)] * 4)))
def test_leakage_is_covered_area_away_from_all_boxes(found: list[Any], wanted: list[Any]) -> None:
    """Sixteenths of the canvas are whole cells, and so is the margin."""
    shapes = [[(x0 / 16, y0 / 16, x1 / 16, y1 / 16) for x0, y0, x1, y1 in some] for some in (found, wanted)]
    covered = outside = 0
    for y in range(16):
        for x in range(16):
            near = any(x0 - 1 <= x < x1 + 1 and y0 - 1 <= y < y1 + 1 for x0, y0, x1, y1 in wanted)
            outside += not near
            covered += not near and any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in found)
    assert MARGIN == 1 / 16
    assert leakage(*shapes) == pytest.approx(covered / outside if outside else 0)


@pytest.mark.parametrize(("relation", "right"), [(LEFT, True), (RIGHT, False)])
def test_relation_takes_the_most_confident_box_of_each(relation: str, right: bool) -> None:
    left, far = (0.0, 0.3, 0.3, 0.6), (0.7, 0.3, 1.0, 0.6)
    instances = tuple(Instance(label=label, phrase=label, box=(0, 0, 1, 1)) for label in ("cat", "dog"))
    layout = BoxLayout(index=0, caption="", instances=instances, relation=relation)
    detector = Given({"cat": [Detection(left, 0.8), Detection(far, 0.4)], "dog": [Detection(far, 0.6)]}, {})
    item = Judges(detector=detector, classes=LABELS)(np.zeros((8, 8, 3), np.uint8), layout)
    assert item["both"]
    assert item["position"] == right
    assert item["score"] == pytest.approx(0.85 if right else 0)
    alone = Judges(detector=Given({"cat": detector.boxes["cat"]}, {}), classes=LABELS)
    item = alone(np.zeros((8, 8, 3), np.uint8), layout)
    assert not item["both"]
    assert item["position"] is None
    assert item["score"] == 0
