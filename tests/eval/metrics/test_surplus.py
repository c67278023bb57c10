"""Surplus objects: none in true images of what was asked for, and each repeated one is counted."""

import cv2
import numpy as np
import pytest

from cloisonne.eval.judge import Judge
from cloisonne.eval.layouts import layouts
from cloisonne.eval.metrics.surplus import beyond, centres, surplus
from cloisonne.models.builtin import BUILTIN
from cloisonne.world.draw import draw


def discs(*places: tuple[int, int], radius: int = 20) -> np.ndarray:
    mask = np.zeros((128, 200), np.uint8)
    for place in places:
        cv2.circle(mask, place, radius, 1, -1)
    return mask > 0


@pytest.mark.parametrize(
    ("mask", "count"),
    [
        (discs(), 0),
        (discs((60, 60)), 1),
        (discs((40, 60), (120, 60)), 2),
        (discs((40, 60), (78, 60)), 2),
        (discs((40, 60), (78, 60), (116, 60)), 3),
        (discs((60, 60), (66, 62)), 1),
        (discs((60, 60), radius=3), 0),
    ],
)
def test_pieces_that_touch_in_a_neck_are_several(mask: np.ndarray, count: int) -> None:
    assert len(centres(mask, 100)) == count


def test_a_long_object_is_one() -> None:
    mask = np.zeros((128, 200), np.uint8)
    cv2.rectangle(mask, (20, 50), (180, 70), 1, -1)
    assert len(centres(mask > 0, 100)) == 1


LEFT, MIDDLE = (0.0, 0.0, 0.4, 1.0), (0.3, 0.0, 0.6, 1.0)


@pytest.mark.parametrize(
    ("points", "count"),
    [
        ([], 0),
        ([(10, 50)], 0),
        ([(10, 50), (20, 50)], 1),
        ([(35, 50), (36, 50)], 0),
        ([(35, 50), (36, 50), (37, 50)], 1),
        ([(90, 50)], 1),
        ([(64, 50)], 0),
        ([(66, 50)], 1),
    ],
)
def test_one_object_in_each_box_was_asked_for(points: list[tuple[float, float]], count: int) -> None:
    assert beyond(points, [LEFT, MIDDLE], (100, 100), 5) == count


def test_true_images_have_none_and_four_copies_have_the_copies() -> None:
    judge = Judge.load(BUILTIN / "judge")
    for layout in layouts()[:2]:
        boxes = [region.box for region in layout.regions]
        picture = layout.truth().picture
        assert surplus(draw(picture, 128, 128).rgb, boxes, judge) == (0, 0)
        assert surplus(draw(picture, 256, 256).rgb, boxes, judge).whole == 0
        copies = np.tile(draw(picture, 128, 128).rgb, (2, 2, 1))
        found = surplus(copies, [(x0 / 2, y0 / 2, x1 / 2, y1 / 2) for x0, y0, x1, y1 in boxes], judge)
        assert found == (3 * len(boxes), 3 * len(boxes))
