import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloisonne.scene.shapes.geometry import Window, area, bounds, clipped, crop_window, iou, overlap, pixel_window

fractions = st.floats(0, 1)
sides = st.integers(1, 300)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    x0, x1 = sorted(draw(st.lists(fractions, min_size=2, max_size=2, unique=True)))
    y0, y1 = sorted(draw(st.lists(fractions, min_size=2, max_size=2, unique=True)))
    return x0, y0, x1, y1


@st.composite
def windows(draw: st.DrawFn) -> tuple[Window, int, int]:
    width, height = draw(sides), draw(sides)
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return Window(x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))), width, height


@given(boxes(), sides, sides)
def test_pixel_window_covers_the_box_and_no_whole_pixel_more(box, width, height) -> None:
    window = pixel_window(box, width, height)
    rounding = 1e-6
    assert window.x0 <= box[0] * width + rounding < window.x0 + 1 + 2 * rounding
    assert window.x1 >= box[2] * width - rounding > window.x1 - 1 - 2 * rounding
    assert 0 <= window.y0 <= window.y1 <= height


def test_pixel_window_keeps_edges_that_were_pixels() -> None:
    for width in range(1, 200):
        for pixel in range(width):
            box = (pixel / width, 0.0, (pixel + 1) / width, 1.0)
            assert pixel_window(box, width, 7) == Window(pixel, 0, pixel + 1, 7)


@given(windows(), st.floats(0, 2))
def test_crop_window_contains_its_window_and_stays_in_the_image(case, context) -> None:
    window, width, height = case
    crop = crop_window(window, width, height, context)
    assert 0 <= crop.x0 <= window.x0 < window.x1 <= crop.x1 <= width
    assert 0 <= crop.y0 <= window.y0 < window.y1 <= crop.y1 <= height
    assert crop.width == crop.height or crop.width == width or crop.height == height


def test_crop_window_is_a_centred_square_with_half_as_much_again() -> None:
    assert crop_window(Window(100, 100, 140, 120), 400, 400) == Window(90, 80, 150, 140)


def test_crop_window_moves_inwards_at_the_edges() -> None:
    assert crop_window(Window(0, 380, 40, 400), 400, 400) == Window(0, 340, 60, 400)


@given(boxes(), boxes())
def test_iou_is_symmetric_and_within_bounds(a, b) -> None:
    if area(a) > 0 and area(b) > 0:
        assert 0 <= iou(a, b) == iou(b, a) <= 1 + 1e-9
        assert iou(a, a) == pytest.approx(1)
        assert overlap(a, b) <= min(area(a), area(b)) + 1e-12


def test_iou_of_two_halves() -> None:
    assert iou((0, 0, 1, 0.5), (0, 0.25, 1, 0.75)) == pytest.approx(1 / 3)


def test_clipped_and_bounds() -> None:
    assert clipped((-0.5, 0.2, 1.5, 0.4)) == (0, 0.2, 1, 0.4)
    assert area(clipped((1.2, 0.2, 1.5, 0.4))) == 0
    assert bounds([(0.5, 0.1), (0.2, 0.9), (0.3, 0.3)]) == (0.2, 0.1, 0.5, 0.9)


def test_window_indexes_arrays_row_first() -> None:
    window = Window(1, 2, 4, 8)
    assert (window.width, window.height) == (3, 6)
    assert window.slices == (slice(2, 8), slice(1, 4))


def test_crop_window_has_a_smallest_side() -> None:
    assert crop_window(Window(100, 100, 140, 120), 400, 400, least=100) == Window(70, 60, 170, 160)
    assert crop_window(Window(100, 100, 140, 120), 400, 400, least=50) == Window(90, 80, 150, 140)
