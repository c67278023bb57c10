"""Training masks have the shapes and sizes that their names say."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloisonne.train.control.masks import LEAST, RADII, training_mask

SIZE = 512
seeds = st.integers(0, 2**32 - 1)


def mask_of(shape: str, seed: int, size: int = SIZE) -> np.ndarray:
    mask = training_mask(shape, size, np.random.default_rng(seed))
    assert mask.shape == (size, size)
    assert mask.dtype == np.float32
    assert set(np.unique(mask)) <= {0.0, 1.0}
    return mask


@given(seeds)
def test_a_bbox_is_one_box_of_no_less_than_the_least_area(seed: int) -> None:
    """A side counts pixels' centres, and may come out one short of what it is."""
    mask = mask_of("bbox", seed)
    rows, columns = mask.any(1), mask.any(0)
    assert np.array_equal(mask > 0, np.logical_and.outer(rows, columns))
    assert np.flatnonzero(np.diff(np.flatnonzero(rows)) > 1).size == 0
    assert (rows.sum() + 1) * (columns.sum() + 1) >= LEAST * SIZE**2


def test_bboxes_are_of_all_sizes_and_places() -> None:
    masks = [mask_of("bbox", seed, 64) for seed in range(600)]
    areas = [mask.mean() for mask in masks]
    assert min(areas) < 0.06
    assert max(areas) > 0.6
    # Of two uniform corners the mean area is 1/9; without those below the least it is a little more.
    assert 1 / 9 < np.mean(areas) < 0.2
    everywhere = np.mean(masks, 0)
    assert everywhere[28:36, 28:36].mean() > everywhere[:4, :4].mean() > 0


@given(seeds)
def test_alternate_is_one_or_two_circles_or_squares_inside_of_the_picture(seed: int) -> None:
    """A shape that the border cut would not be as wide as it is tall."""
    mask = mask_of("alternate", seed)
    found, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    asked = int(np.random.default_rng(seed).integers(1, 3))
    assert 1 <= found - 1 <= asked
    if found - 1 == asked:
        for width, height in stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].tolist():
            assert width == pytest.approx(height, abs=1)
            assert 2 * RADII[0] * SIZE - 2 <= width <= 2 * RADII[1] * SIZE + 1
    assert np.pi * (RADII[0] * SIZE - 1) ** 2 <= mask.sum() <= asked * (2 * RADII[1] * SIZE + 1) ** 2


def test_alternate_takes_turns() -> None:
    """Single shapes that fill their box are squares, those that fill 0.785 of it circles, in equal parts."""
    shares, counts = [], []
    for seed in range(300):
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask_of("alternate", seed, 256).astype(np.uint8))
        counts.append(count - 1)
        width, height, filled = (int(v) for v in stats[1, 2:5])
        if count == 2 and abs(width - height) <= 1:
            shares.append(filled / (width * height))
    assert {1, 2} == set(counts)
    round_ones = [abs(share - np.pi / 4) < 0.03 for share in shares]
    square_ones = [share > 0.99 for share in shares]
    assert 0.3 < np.mean(round_ones) < 0.7
    assert 0.3 < np.mean(square_ones) < 0.7


def test_fixed_is_the_middle() -> None:
    expected = np.zeros((64, 64), np.float32)
    expected[16:48, 16:48] = 1
    for seed in (0, 1):
        assert np.array_equal(mask_of("fixed", seed, 64), expected)


def test_none_is_everywhere() -> None:
    assert mask_of("none", 0, 32).all()


@pytest.mark.parametrize("shape", ["bbox", "alternate"])
def test_masks_follow_their_generator(shape: str) -> None:
    assert np.array_equal(mask_of(shape, 3), mask_of(shape, 3))
    assert not np.array_equal(mask_of(shape, 3), mask_of(shape, 4))
