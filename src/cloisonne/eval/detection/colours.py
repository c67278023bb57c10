"""The colour of an object by its share of pixels in HSV, as COCO-MIG measures it.

MIGC (Zhou et al., CVPR 2024, arXiv 2402.05408), with the ranges and the share of its published harness,
github.com/LeyRio/MIG_Bench, eval_mig.py: an object has a colour if at least a fifth of its pixels are in the range.
"""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

SHARE = 0.2
"""Least fraction of an object's pixels."""

Range = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Least and greatest hue, saturation and value, inclusive, on OpenCV's scale: hue 0 to 179, the others 0 to 255."""

HSV: Mapping[str, tuple[Range, ...]] = {
    "red": (((0, 43, 35), (6, 255, 255)), ((156, 43, 35), (180, 255, 255))),
    "blue": (((78, 43, 35), (124, 255, 255)),),
    "green": (((35, 43, 35), (77, 255, 255)),),
    "yellow": (((20, 43, 35), (34, 255, 255)),),
    "black": (((0, 0, 0), (180, 255, 35)),),
    "white": (((0, 0, 221), (180, 43, 255)),),
    "brown": (((6, 43, 35), (25, 255, 255)),),
}
"""The ranges of each colour. Brown and yellow overlap; orange, pink and purple are not among them."""


def share(rgb: NDArray[np.uint8], mask: NDArray[np.bool_], colour: str) -> float:
    """Fraction, in [0, 1], of the pixels in the mask [H, W] of an image [H, W, 3] with the colour; 0 without any."""
    hsv = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2HSV)
    within = np.zeros(mask.shape, bool)
    for low, high in HSV[colour]:
        within |= cv2.inRange(hsv, np.array(low), np.array(high)) > 0
    return float(within[mask].mean()) if mask.any() else 0.0


def has_colour(rgb: NDArray[np.uint8], mask: NDArray[np.bool_], colour: str) -> bool:
    """Whether an object has a colour of ``HSV``. mask: its pixels."""
    return share(rgb, mask, colour) >= SHARE
