"""Colours by their share of pixels in HSV."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from painted import GROUND, PAINT

from cloisonne.eval.detection.colours import HSV, SHARE, has_colour, share


@pytest.mark.parametrize("colour", HSV)
@pytest.mark.parametrize("painted", PAINT)
def test_each_example_has_its_colour_alone(painted: str, colour: str) -> None:
    rgb = np.full((4, 4, 3), PAINT[painted], np.uint8)
    assert share(rgb, np.ones((4, 4), bool), colour) == float(painted == colour)


@pytest.mark.parametrize("count", [0, 1, 19, 20, 21, 100])
def test_a_fifth_of_the_pixels_is_enough(count: int) -> None:
    rgb = np.full((20, 10, 3), PAINT["blue"], np.uint8)
    mask = np.zeros((20, 10), bool)
    mask[:10] = True
    rgb.reshape(-1, 3)[:count] = PAINT["red"]
    assert share(rgb, mask, "red") == pytest.approx(count / 100)
    assert has_colour(rgb, mask, "red") == (count >= 100 * SHARE)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_ranges_agree_with_the_standard_conversion(rgb: tuple[int, int, int]) -> None:
    """OpenCV rounds hue to two degrees; away from the ranges' ends it agrees with colorsys."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(v / 255 for v in rgb))
    exact = np.array([hue * 180, saturation * 255, value * 255])
    picture = np.full((1, 1, 3), rgb, np.uint8)
    for colour, ranges in HSV.items():
        ends = np.array([end for one in ranges for end in one])
        if (np.abs(ends - exact) > 1).all():
            inside = any((exact >= low).all() and (exact <= high).all() for low, high in map(np.array, ranges))
            assert share(picture, np.ones((1, 1), bool), colour) == float(inside)


@pytest.mark.parametrize("colour", HSV)
def test_other_colours_have_no_name(colour: str) -> None:
    assert share(np.full((4, 4, 3), GROUND, np.uint8), np.ones((4, 4), bool), colour) == 0


def test_nothing_has_no_colour() -> None:
    assert not has_colour(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool), "black")
