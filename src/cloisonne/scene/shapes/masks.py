"""Soft masks: shapes as float32 arrays [H, W] in [0, 1], 1 where the region is, exactly 0 outside.

Vector shapes and run-length encodings are hard: a pixel belongs to a shape if its centre does. So shapes that share an
edge have neither gap nor overlap. H, W: canvas pixels. h, w: latent pixels.
"""

from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64
from numpy.typing import NDArray

from cloisonne.scene.shapes.geometry import Box, Point

Mask = Float32[np.ndarray, "_ _"]


def _centres(count: int) -> Float64[np.ndarray, " count"]:
    return (np.arange(count) + 0.5) / count


def box_mask(box: Box, height: int, width: int) -> Mask:
    """1 where the pixel's centre has x0 <= x < x1 and y0 <= y < y1."""
    x, y = _centres(width), _centres(height)
    columns = (box[0] <= x) & (x < box[2])
    rows = (box[1] <= y) & (y < box[3])
    return (rows[:, None] & columns[None]).astype(np.float32)


def ellipse_mask(box: Box, height: int, width: int) -> Mask:
    """1 inside the ellipse that touches the four sides of ``box``."""
    x0, y0, x1, y1 = box
    x = (_centres(width) - (x0 + x1) / 2) / ((x1 - x0) / 2)
    y = (_centres(height) - (y0 + y1) / 2) / ((y1 - y0) / 2)
    return (y[:, None] ** 2 + x[None] ** 2 <= 1).astype(np.float32)


def polygon_mask(points: tuple[Point, ...], height: int, width: int) -> Mask:
    """1 where a ray to the left crosses the outline an odd number of times (the even-odd rule)."""
    x, y = _centres(width), _centres(height)
    crossed = np.zeros((height, width + 1), np.uint8)
    for a, b in zip(points, (*points[1:], points[0]), strict=True):
        # Sorted ends, so that neighbours that share an edge round it in the same way.
        (xa, ya), (xb, yb) = sorted((a, b), key=lambda point: (point[1], point[0]))
        rows = np.flatnonzero((ya <= y) & (y < yb))
        if rows.size:
            at = xa + (y[rows] - ya) * ((xb - xa) / (yb - ya))
            crossed[rows, np.searchsorted(x, at, side="left")] ^= 1
    return np.bitwise_xor.accumulate(crossed[:, :width], axis=1).astype(np.float32)


def sampled(hard: Bool[np.ndarray, "_ _"], height: int, width: int) -> Mask:
    """Resize a hard mask to the canvas: each pixel takes the value at its centre."""
    rows = (_centres(height) * hard.shape[0]).astype(int)
    columns = (_centres(width) * hard.shape[1]).astype(int)
    return hard[np.ix_(rows, columns)].astype(np.float32)


def resized(soft: Mask, height: int, width: int) -> Mask:
    """Resize a soft mask to the canvas: area averages where it shrinks, linear interpolation where it grows."""
    if soft.shape == (height, width):
        return soft
    shrunk = downsample(soft, min(height, soft.shape[0]), min(width, soft.shape[1]))
    return np.clip(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1, dtype=np.float32)


def downsample(mask: Mask, height: int, width: int) -> Mask:
    """Average ``mask`` [H, W] over the cells of a coarser grid [h, w] = [height, width], such as the latents'."""
    if mask.shape == (height, width):
        return mask
    return np.clip(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA), 0, 1, dtype=np.float32)


def feathered(mask: Mask, pixels: float) -> Mask:
    """Multiply ``mask`` by a ramp from 0 at its outline to 1 at ``pixels`` inside of it.

    The ramp lies inside the mask. The edge of the canvas is no outline: a region that touches it is not faded there.
    """
    inside = (mask > 0).astype(np.uint8)
    # The first pixel's centre lies half a pixel inside of the outline, so a narrower ramp changes nothing.
    if pixels <= 0.5 or inside.all():
        return mask
    return (mask * np.clip(_depth(inside) / pixels, 0, 1)).astype(np.float32)


def seamed(mask: Mask, pixels: float) -> Mask:
    """Limit ``mask`` to a ramp from 0 at its outline to 1 at ``pixels`` inside of it.

    Edges that are softer already do not change. In parts thinner than ``4 * pixels`` the ramp is shorter, so that the
    inner half of each part keeps its values. The ramp lies inside the mask. The edge of the canvas is no outline.
    """
    inside = (mask > 0).astype(np.uint8)
    if inside.all() or not inside.any():
        return mask
    depth = _depth(inside)
    found: Any = cv2.connectedComponents(inside, connectivity=4)
    count, parts = found
    deepest = np.zeros(count)
    np.maximum.at(deepest, parts.ravel(), depth.ravel())
    widths = np.maximum(np.minimum(pixels, deepest / 2), 0.5)
    return np.minimum(mask, np.clip(depth / widths[parts], 0, 1)).astype(np.float32)


def _depth(inside: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Distance [H, W] from each non-zero pixel's centre to the outline, in pixels; -0.5 outside."""
    # The transform measures to the centre of the first pixel outside. Its last bits depend on the memory alignment of
    # its input, but its squares are whole numbers.
    rough = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.sqrt(np.rint(np.square(rough, dtype=np.float64))) - 0.5


def extent(mask: Mask, level: float = 0.0) -> Box | None:
    """The smallest box (fractions) around all pixels above ``level``; None if there are none."""
    above = mask > level
    rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
    if not rows.size:
        return None
    height, width = mask.shape
    return (
        float(columns[0] / width),
        float(rows[0] / height),
        float((columns[-1] + 1) / width),
        float((rows[-1] + 1) / height),
    )
