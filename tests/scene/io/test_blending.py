"""Gradient-domain blending: where a generated image meets the image around it."""

import numpy as np
import pytest

from cloisonne.eval.metrics.holes import seam
from cloisonne.scene.io.source_image import matched

SIDE = 48


def image(level: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def square(margin: int = 12) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[margin:-margin, margin:-margin] = True
    return mask


def test_another_shade_meets_the_source_at_the_border_and_stays_in_the_middle() -> None:
    source, pixels, mask = image(100), image(120), square()
    result = matched(pixels, source, mask)
    composite = np.where(mask[..., None], result, source)
    assert seam(np.where(mask[..., None], pixels, source), mask) == 20
    assert seam(composite, mask) < 4
    assert result[SIDE // 2, SIDE // 2].tolist() == [120, 120, 120]
    assert np.array_equal(result[~mask], pixels[~mask])


def test_an_edge_along_the_border_stays() -> None:
    mask = square()
    pixels = np.where(mask[..., None], image(220), image(40))
    assert np.array_equal(matched(pixels, image(40), mask), pixels)


def test_an_object_that_the_border_cuts_stays() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[20:22, 5:40] = True
    assert np.array_equal(matched(image(220), image(40), mask), image(220))


@pytest.mark.parametrize("mask", [np.ones((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)])
def test_without_a_border_nothing_changes(mask: np.ndarray) -> None:
    assert np.array_equal(matched(image(120), image(10), mask), image(120))


def test_at_the_edge_of_the_image_there_is_no_border() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:20, :20] = True
    result = matched(image(120), image(100), mask)
    assert result[0, 0].tolist() == [120, 120, 120]
    assert abs(int(result[19, 0, 0]) - 100) < 6


def test_values_stay_in_range() -> None:
    result = matched(image(250), np.where(square()[..., None], image(0), image(255)), square())
    assert int(result.max()) == 255
    result = matched(np.where(square()[..., None], image(250), image(200)), image(255), square())
    assert int(result.max()) == 255
