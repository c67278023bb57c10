import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloisonne.scene.shapes.masks import (
    box_mask,
    downsample,
    ellipse_mask,
    extent,
    feathered,
    polygon_mask,
    resized,
    sampled,
)

fractions = st.floats(0, 1)
points = st.tuples(fractions, fractions)
sizes = st.integers(1, 40)


def centres(height: int, width: int) -> list[tuple[int, int, float, float]]:
    return [(i, j, (j + 0.5) / width, (i + 0.5) / height) for i in range(height) for j in range(width)]


def grey(height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.random((height, width)) * (rng.random((height, width)) < 0.6)).astype(np.float32)


@given(st.tuples(fractions, fractions, fractions, fractions), sizes, sizes)
def test_box_by_the_pixel_centre_rule(box, height, width) -> None:
    mask = box_mask(box, height, width)
    for i, j, x, y in centres(height, width):
        assert mask[i, j] == (box[0] <= x < box[2] and box[1] <= y < box[3])


@given(st.tuples(fractions, fractions, fractions, fractions), sizes, sizes)
def test_polygon_of_a_boxes_corners_is_the_box(box, height, width) -> None:
    x0, y0, x1, y1 = min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    assert (polygon_mask(corners, height, width) == box_mask((x0, y0, x1, y1), height, width)).all()


def test_an_edge_on_a_pixels_centre_belongs_to_one_side() -> None:
    left, right = box_mask((0, 0, 0.375, 1), 4, 4), box_mask((0.375, 0, 1, 1), 4, 4)
    assert left[0].tolist() == [1, 0, 0, 0]
    assert right[0].tolist() == [0, 1, 1, 1]
    assert (polygon_mask(((0, 0), (0.375, 0), (0.375, 1), (0, 1)), 4, 4) == left).all()
    assert (box_mask((0, 0, 1, 0.375), 4, 4) == left.T).all()


@given(st.lists(points, min_size=4, max_size=4), sizes, sizes)
def test_polygons_that_share_edges_tile_without_gap_or_overlap(corners, height, width) -> None:
    a, b, c, d = corners
    parts = sum(polygon_mask(part, height, width) for part in ((a, b, c), (d, c, a)))
    # Even-odd: the fan of a polygon's triangles adds up to the polygon, modulo 2.
    assert (parts % 2 == polygon_mask((a, b, c, d), height, width)).all()


@given(st.lists(points, min_size=3, max_size=8), st.integers(0, 7), st.booleans())
def test_polygon_depends_neither_on_its_start_nor_on_its_direction(corners, start, backwards) -> None:
    turned = corners[start % len(corners) :] + corners[: start % len(corners)]
    turned = turned[::-1] if backwards else turned
    assert (polygon_mask(tuple(corners), 23, 31) == polygon_mask(tuple(turned), 23, 31)).all()


def test_polygon_fills_even_odd() -> None:
    bow_tie = polygon_mask(((0, 0), (1, 1), (1, 0), (0, 1)), 8, 8)
    assert bow_tie[4, 0] == 1
    assert bow_tie[4, 7] == 1
    assert bow_tie[0, 4] == bow_tie[7, 4] == 0


@given(st.tuples(fractions, fractions), st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)), sizes, sizes)
def test_ellipse_by_the_pixel_centre_rule(corner, side, height, width) -> None:
    box = (corner[0], corner[1], corner[0] + side[0], corner[1] + side[1])
    mask = ellipse_mask(box, height, width)
    for i, j, x, y in centres(height, width):
        radius = ((x - (box[0] + box[2]) / 2) / side[0] * 2) ** 2 + ((y - (box[1] + box[3]) / 2) / side[1] * 2) ** 2
        if abs(radius - 1) > 1e-9:
            assert mask[i, j] == (radius < 1)


@given(sizes, sizes, sizes, sizes, st.integers(0, 99))
def test_sampled_takes_what_the_centre_falls_on(h, w, height, width, seed) -> None:
    hard = np.random.default_rng(seed).random((h, w)) < 0.5
    mask = sampled(hard, height, width)
    for i, j, x, y in centres(height, width):
        assert mask[i, j] == hard[int(y * h), int(x * w)]


def test_hard_shapes_have_no_other_values_than_0_and_1() -> None:
    for mask in (
        box_mask((0.1, 0.1, 0.7, 0.33), 50, 40),
        ellipse_mask((0.1, 0.1, 0.7, 0.33), 50, 40),
        polygon_mask(((0.1, 0.1), (0.9, 0.2), (0.3, 0.8)), 50, 40),
    ):
        assert mask.dtype == np.float32
        assert set(np.unique(mask)) == {0, 1}


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 99))
def test_downsample_averages_areas(h, w, factor, seed) -> None:
    mask = grey(h * factor, w * factor, seed)
    expected = mask.reshape(h, factor, w, factor).mean(axis=(1, 3))
    assert downsample(mask, h, w) == pytest.approx(expected, abs=1e-6)


@given(st.integers(2, 40), st.integers(2, 40), st.data())
def test_downsample_averages_areas_by_any_ratio(height, width, data) -> None:
    h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    mask = grey(height, width, 3)
    expected = shares(h, height) @ mask @ shares(w, width).T
    assert downsample(mask, h, w) == pytest.approx(expected, abs=1e-5)


def shares(coarse: int, fine: int) -> np.ndarray:
    """[coarse, fine]: the share of each coarse cell that each fine cell covers."""
    starts, stops = np.arange(coarse)[:, None] / coarse, (np.arange(coarse)[:, None] + 1) / coarse
    left, right = np.arange(fine)[None] / fine, (np.arange(fine)[None] + 1) / fine
    return np.clip(np.minimum(stops, right) - np.maximum(starts, left), 0, None) * coarse


@given(sizes, sizes, sizes, sizes, st.integers(0, 99))
def test_resized_stays_between_its_extremes(h, w, height, width, seed) -> None:
    soft = grey(h, w, seed)
    mask = resized(soft, height, width)
    assert mask.shape == (height, width)
    assert mask.dtype == np.float32
    assert soft.min() - 1e-6 <= mask.min() <= mask.max() <= soft.max() + 1e-6


def test_resized_to_its_own_size_changes_nothing() -> None:
    mask = grey(9, 7, 0)
    assert (resized(mask, 9, 7) == mask).all()


@given(st.floats(0, 12), st.integers(0, 99))
def test_feather_goes_inwards_only(pixels, seed) -> None:
    mask = grey(20, 24, seed)
    soft = feathered(mask, pixels)
    assert (soft <= mask).all()
    assert (soft[mask == 0] == 0).all()
    assert soft.dtype == np.float32


@given(st.floats(0, 6), st.floats(0, 6))
def test_a_wider_feather_is_nowhere_brighter(a, b) -> None:
    mask = ellipse_mask((0.1, 0.2, 0.9, 0.8), 30, 30)
    assert (feathered(mask, max(a, b)) <= feathered(mask, min(a, b)) + 1e-6).all()


def test_feather_of_a_box_is_a_linear_ramp() -> None:
    row = feathered(box_mask((0.25, 0.0, 0.75, 1.0), 16, 16), 4)[8]
    assert row == pytest.approx([0] * 4 + [0.125, 0.375, 0.625, 0.875] + [0.875, 0.625, 0.375, 0.125] + [0] * 4)


def test_feather_of_nothing_and_of_everything_changes_nothing() -> None:
    assert (feathered(grey(9, 9, 0), 0) == grey(9, 9, 0)).all()
    assert (feathered(np.ones((9, 9), np.float32), 3) == 1).all()


@pytest.mark.parametrize("offset", [0, 16, 32, 48])
def test_soft_edges_are_exact_wherever_their_memory_lies(offset: int) -> None:
    """The last bits of OpenCV's distances depend on it, and a picture's bytes on them."""
    hard, pixels = ellipse_mask((0.0, 0.0, 0.5, 0.5), 64, 64), 6.4
    memory = np.zeros(hard.nbytes + 128, np.uint8)
    first = -memory.ctypes.data % 64 + offset
    laid = memory[first : first + hard.nbytes].view(np.float32).reshape(hard.shape)
    laid[:] = hard
    inside, outside = np.argwhere(hard > 0), np.argwhere(hard == 0)
    squares = np.square(inside[:, None] - outside[None]).sum(-1).min(1)
    expected = np.zeros_like(hard)
    expected[tuple(inside.T)] = np.clip((np.sqrt(squares) - 0.5) / pixels, 0, 1)
    assert np.array_equal(feathered(laid, pixels), expected)


def test_the_edge_of_the_canvas_is_not_feathered() -> None:
    soft = feathered(box_mask((0, 0, 0.5, 1), 16, 16), 4)
    assert (soft[:, :4] == 1).all()
    assert (soft[:, 7] < 1).all()


def test_extent() -> None:
    mask = np.zeros((10, 20), np.float32)
    assert extent(mask) is None
    mask[3, 4], mask[7, 15] = 0.2, 0.9
    assert extent(mask) == (0.2, 0.3, 0.8, 0.8)
    assert extent(mask, 0.5) == (0.75, 0.7, 0.8, 0.8)
