"""Images and boxes move together; mirroring swaps "left" and "right"; slivers are dropped."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloisonne.scene.shapes.geometry import Box, area
from cloisonne.train.datasets.augment import MIN_LEFT, MIN_SIDE_PX, augmented, mirrored, sides_swapped
from cloisonne.train.datasets.training_image import TrainingImage


def with_box(box: Box, height: int = 60, width: int = 90, words: str = "a cat") -> TrainingImage:
    """White where the box is."""
    rgb = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = (round(v * n) for v, n in zip(box, (width, height, width, height), strict=True))
    rgb[y0:y1, x0:x1] = 255
    return TrainingImage(rgb, "a cat on the left", ((box, words),))


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("a bright copyright sign upright on the left", "a bright copyright sign upright on the right"),
        ("Left of a RIGHT hand, left-hand side.", "Right of a LEFT hand, right-hand side."),
        ("leftover rightly", "leftover rightly"),
        ("", ""),
    ],
)
def test_sides_are_words(text: str, swapped: str) -> None:
    assert sides_swapped(text) == swapped
    assert sides_swapped(swapped) == text


def test_a_mirror_turns_captions_and_region_texts() -> None:
    image = mirrored(with_box((0.1, 0.2, 0.4, 0.6), words="the left bright cat"))
    assert image.caption == "a cat on the right"
    ((box, words),) = image.regions
    assert box == pytest.approx((0.6, 0.2, 0.9, 0.6))
    assert words == "the right bright cat"
    again = mirrored(image)
    assert np.array_equal(again.rgb, with_box((0.1, 0.2, 0.4, 0.6)).rgb)


@given(st.integers(0, 10_000), st.sampled_from([(60, 90), (90, 60), (64, 64), (40, 40)]))
def test_boxes_stay_on_what_they_are_about(seed: int, size: tuple[int, int]) -> None:
    box = (0.3, 0.25, 0.7, 0.75)
    seen = augmented(with_box(box, *size), np.random.default_rng(seed), 64)
    assert seen.rgb.shape == (64, 64, 3)
    for found, _ in seen.regions:
        white = seen.rgb[..., 0] > 127
        rows, columns = np.nonzero(white.any(1))[0], np.nonzero(white.any(0))[0]
        true = (columns[0] / 64, rows[0] / 64, (columns[-1] + 1) / 64, (rows[-1] + 1) / 64)
        assert found == pytest.approx(true, abs=2 / 64)
        assert all(0 <= value <= 1 for value in found)


def test_nothing_given_is_changed() -> None:
    image = with_box((0.3, 0.25, 0.7, 0.75))
    before = copy.deepcopy(image)
    for seed in range(20):
        augmented(image, np.random.default_rng(seed), 32)
    assert np.array_equal(image.rgb, before.rgb)
    assert (image.caption, image.regions) == (before.caption, before.regions)


def test_half_are_mirrored_by_default() -> None:
    image = with_box((0.0, 0.0, 0.5, 1.0), 64, 64)
    turned = [augmented(image, np.random.default_rng(k), 64).caption.endswith("right") for k in range(400)]
    assert np.mean(turned) == pytest.approx(0.5, abs=0.075)
    unmirrored = [augmented(image, np.random.default_rng(k), 64, flip=False) for k in range(40)]
    assert all(seen.caption.endswith("left") for seen in unmirrored)


def test_slivers_are_dropped_with_their_words() -> None:
    """A crop of 64 out of 256 pixels across leaves of a box at the end anything from nothing to all of it."""
    image = with_box((0.5, 0.2, 0.75, 0.8), 64, 256)
    shares = []
    for seed in range(300):
        seen = augmented(image, np.random.default_rng(seed), 64, flip=False)
        shares += [area(box) * 64 * 64 / (64 * 0.6 * 64) for box, _ in seen.regions]
    assert MIN_LEFT - 1e-6 <= min(shares) < 0.4
    assert max(shares) == pytest.approx(1)
    assert len(shares) < 300


@pytest.mark.parametrize(("side", "expected"), [(MIN_SIDE_PX - 1, 0), (MIN_SIDE_PX + 1, 1)])
def test_regions_smaller_than_a_latent_pixel_are_dropped(side: int, expected: int) -> None:
    image = with_box((0.5, 0.1, 0.5 + side / 64, 0.9), 64, 64)
    assert len(augmented(image, np.random.default_rng(0), 64).regions) == expected
