"""Masks of other tools on a canvas: lines with a width, and pixels with a place."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import NDArray


def stroke_mask(
    points: Float64[np.ndarray, "n 2"], radii: Float64[np.ndarray, " n"], size: tuple[int, int]
) -> Bool[np.ndarray, "_ _"]:
    """The pixels whose centres are nearer to a line than its radius, with round ends and corners.

    Args:
        points: x, y in pixels; one point is a disc.
        radii: half of the width at each point, in pixels; between two points it is their mean.
        size: width and height of the canvas.

    Returns:
        The mask [H, W].
    """
    mask = np.zeros((size[1], size[0]), bool)
    ends = points[1:] if len(points) > 1 else points
    widths = (radii[:-1] + radii[1:]) / 2 if len(points) > 1 else radii
    for start, end, radius in zip(points, ends, widths, strict=False):
        _draw(mask, start, end, float(radius))
    return mask


def _draw(
    mask: Bool[np.ndarray, "_ _"], start: Float64[np.ndarray, " 2"], end: Float64[np.ndarray, " 2"], radius: float
) -> None:
    """Set the pixels that are nearer to a segment than ``radius``."""
    height, width = mask.shape
    x0, y0 = np.clip(np.floor(np.minimum(start, end) - radius), 0, (width, height)).astype(int)
    x1, y1 = np.clip(np.ceil(np.maximum(start, end) + radius), 0, (width, height)).astype(int)
    if x0 >= x1 or y0 >= y1:
        return
    x, y = np.arange(x0, x1) + 0.5 - start[0], np.arange(y0, y1)[:, None] + 0.5 - start[1]
    along = end - start
    length = float(along @ along)
    part = np.clip((x * along[0] + y * along[1]) / length, 0, 1) if length > 0 else np.zeros(())
    mask[y0:y1, x0:x1] |= (x - part * along[0]) ** 2 + (y - part * along[1]) ** 2 <= radius**2


def placed(values: NDArray[Any], place: tuple[int, int], size: tuple[int, int], outside: float | bool) -> NDArray[Any]:
    """A canvas [H, W] of ``size`` (width, height) with ``values`` [h, w] at x, y and ``outside`` elsewhere."""
    canvas = np.full((size[1], size[0]), outside, values.dtype)
    x, y = place
    left, top = max(x, 0), max(y, 0)
    part = values[top - y : max(size[1] - y, 0), left - x : max(size[0] - x, 0)]
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
    return canvas
