"""Detections of one class: sorted, within the image, and each object once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloisonne.eval.detection.detector import SAME, distinct
from cloisonne.scene.shapes.geometry import iou

corner = st.floats(-0.2, 1.2)
boxes = st.lists(st.tuples(st.tuples(corner, corner, corner, corner), st.floats(0, 1)), max_size=12)
Found = list[tuple[tuple[float, float, float, float], float]]


@given(boxes)
def test_detections_are_sorted_clipped_and_distinct(
    found: Found,
) -> None:
    kept = distinct([box for box, _ in found], [score for _, score in found])
    scores = [one.score for one in kept]
    assert scores == sorted(scores, reverse=True)
    for k, one in enumerate(kept):
        x0, y0, x1, y1 = one.box
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        assert all(iou(one.box, other.box) <= SAME for other in kept[:k])


@given(boxes)
def test_what_is_dropped_is_empty_or_a_repetition(found: Found) -> None:
    kept = distinct([box for box, _ in found], [score for _, score in found])
    for (x0, y0, x1, y1), score in found:
        clip = (max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0))
        if clip[0] < clip[2] and clip[1] < clip[3]:
            assert any(other.score >= score and (other.box == clip or iou(other.box, clip) > SAME) for other in kept)


@pytest.mark.parametrize("overlap", [0.79, 0.81])
def test_limit_of_a_repetition(overlap: float) -> None:
    kept = distinct([(0, 0, 1, 1), (0, 0, 1, overlap)], [0.5, 0.9])
    assert len(kept) == (1 if overlap > SAME else 2)
    assert kept[0].score == 0.9


def test_no_boxes() -> None:
    assert distinct(np.zeros((0, 4)).tolist(), []) == []
