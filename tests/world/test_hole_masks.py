"""Holes contain their object for any box, and windows are square if a square can contain the hole."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloisonne.scene.shapes.geometry import Box, area
from cloisonne.world.hole_masks import JITTER, STRETCH, blob, rectangle, stretched, window

SIZE = 64
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(16, 200)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Of a tenth of a side or more; a third of them at a border of the picture."""
    ends = []
    for _ in range(2):
        length = draw(st.floats(0.1, 1))
        start = draw(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0]))) * (1 - length)
        ends.append((start, min(start + length, 1.0)))
    (x0, x1), (y0, y1) = ends
    return (x0, y0, x1, y1)


def inside(box: Box) -> np.ndarray:
    """[SIZE, SIZE], True at the pixels that lie in the box entirely, of sides that are rounded inwards."""
    x0, y0 = (int(np.ceil(v * SIZE)) for v in box[:2])
    x1, y1 = (int(np.floor(v * SIZE)) for v in box[2:])
    mask = np.zeros((SIZE, SIZE), bool)
    mask[y0:y1, x0:x1] = True
    return mask


@given(boxes(), seeds)
def test_a_stretched_box_holds_the_box_and_leaves_most_of_the_free_space(box: Box, seed: int) -> None:
    x0, y0, x1, y1 = stretched(box, np.random.default_rng(seed))
    assert (1 - STRETCH) * box[0] - 1e-9 <= x0 <= box[0]
    assert (1 - STRETCH) * box[1] - 1e-9 <= y0 <= box[1]
    assert box[2] <= x1 <= box[2] + STRETCH * (1 - box[2]) + 1e-9
    assert box[3] <= y1 <= box[3] + STRETCH * (1 - box[3]) + 1e-9


@settings(max_examples=300)
@given(boxes(), seeds, sides, sides)
def test_rectangles_and_blobs_hold_the_objects_box(box: Box, seed: int, width: int, height: int) -> None:
    """In the window that they are seen in."""
    rng = np.random.default_rng(seed)
    reach = stretched(box, rng)
    frame = window(reach, width, height, rng)
    own, beyond = frame.seen(box, width, height), frame.seen(reach, width, height)
    for mask in (rectangle(beyond, SIZE), blob(own, beyond, SIZE, rng)):
        assert mask.shape == (SIZE, SIZE)
        assert mask.dtype == bool
        assert mask.any()
        assert mask[inside(own)].all()


@settings(max_examples=300)
@given(boxes(), seeds)
def test_a_blob_is_larger_than_its_box_and_smaller_than_what_it_reaches_for(box: Box, seed: int) -> None:
    """But for the jitter and for half a pixel of rounding."""
    rng = np.random.default_rng(seed)
    reach = stretched(box, rng)
    covered = blob(box, reach, SIZE, rng)
    slack = JITTER + 1 / SIZE
    x0, y0, x1, y1 = reach
    largest = (min(x1 + slack, 1) - max(x0 - slack, 0)) * (min(y1 + slack, 1) - max(y0 - slack, 0))
    assert inside(box).mean() <= covered.mean() <= largest


def test_a_blob_bulges_halfway_to_what_it_reaches_for() -> None:
    """A side whose middle is pulled from 0.4 to 0.1 is a parabola through 0.25."""
    mask = blob((0.4, 0.4, 0.6, 0.6), (0.1, 0.1, 0.9, 0.9), 200, np.random.default_rng(0))
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    for first, last in ((rows[0], rows[-1]), (columns[0], columns[-1])):
        assert first / 200 == pytest.approx(0.25, abs=2 * JITTER)
        assert last / 200 == pytest.approx(0.75, abs=2 * JITTER)
    # The square, and four segments of a parabola: two thirds of their height times their base.
    assert mask.mean() == pytest.approx(0.2**2 + 4 * 2 / 3 * 0.2 * 0.15, rel=0.05)


@given(seeds, st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1)]))
def test_no_side_of_a_blob_is_degenerate_at_the_border(seed: int, corner: tuple[int, int]) -> None:
    """Where the box lies in a corner, nothing of the picture is left beyond two sides; the mask is one piece."""
    x, y = (0.7 * at for at in corner)
    box = (x, y, x + 0.3, y + 0.3)
    rng = np.random.default_rng(seed)
    mask = blob(box, stretched(box, rng), SIZE, rng)
    assert mask[:, 0 if corner[0] == 0 else -1].sum() >= 0.3 * SIZE - 1
    assert mask[0 if corner[1] == 0 else -1].sum() >= 0.3 * SIZE - 1
    assert cv2.connectedComponents(mask.astype(np.uint8))[0] == 2


def test_blobs_of_one_box_differ() -> None:
    box, reach = (0.3, 0.3, 0.7, 0.7), (0.1, 0.1, 0.9, 0.9)
    one, other = (blob(box, reach, SIZE, np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, rectangle(reach, SIZE))


@pytest.mark.parametrize("box", [(0.999, 0.999, 1.0, 1.0), (0.0, 0.0, 0.001, 0.001), (0.5, 0.996, 0.9, 1.0)])
def test_the_hole_of_the_smallest_box_is_a_pixel(box: Box) -> None:
    assert rectangle(box, SIZE).any()
    assert blob(box, box, SIZE, np.random.default_rng(0)).any()


@given(boxes(), seeds, sides, sides)
def test_a_window_is_square_and_holds_the_box_wherever_a_square_can(
    box: Box, seed: int, width: int, height: int
) -> None:
    frame = window(box, width, height, np.random.default_rng(seed))
    assert 0 <= frame.left < frame.right <= width
    assert 0 <= frame.top < frame.bottom <= height
    wide, tall = (np.ceil(box[2 + k] * n) - np.floor(box[k] * n) for k, n in ((0, width), (1, height)))
    if max(wide, tall) <= min(width, height):
        assert frame.right - frame.left == frame.bottom - frame.top
    else:
        assert (frame.left, frame.top, frame.right, frame.bottom) == (0, 0, width, height)
    seen = frame.seen(box, width, height)
    assert all(-1e-9 <= value <= 1 + 1e-9 for value in seen)
    assert area(seen) * (frame.right - frame.left) * (frame.bottom - frame.top) == pytest.approx(
        area(box) * width * height
    )


def test_windows_lie_everywhere_and_are_drawn_in() -> None:
    box = (0.45, 0.4, 0.55, 0.6)
    frames = [window(box, 200, 100, np.random.default_rng(seed)) for seed in range(300)]
    lefts = [frame.left for frame in frames]
    assert min(lefts) < 20
    assert max(frame.right for frame in frames) > 180
    assert {frame.bottom - frame.top for frame in frames} >= {100, 90}
