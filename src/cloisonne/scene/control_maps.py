"""Control maps that need no network. The command line, scenes and metrics share them."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 100, 200
"""Gradient thresholds of the Canny edge detector, as in the training of the adapters."""

CELL = 64
"""Side of one colour cell of a colour map, in pixels: 8 x 8 cells on 512 x 512 pixels."""

Pixels = NDArray[np.uint8]


def canny(rgb: Pixels) -> Pixels:
    """Canny edges of an RGB image uint8 [H, W, 3]: uint8 [H, W], 255 on an edge and 0 elsewhere."""
    return cv2.Canny(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), LOW, HIGH).astype(np.uint8)


def sobel(rgb: Pixels) -> Pixels:
    """Sobel gradient magnitude of an RGB image: uint8 [H, W], scaled so that the largest is 255."""
    grey: Any = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    strength = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.rint(strength * (255 / max(float(strength.max()), 1.0))).astype(np.uint8)


def color(rgb: Pixels) -> Pixels:
    """Mean colours of square cells: uint8 [H, W, 3]. Cells are CELL pixels wide, smaller on small images."""
    height, width = rgb.shape[:2]
    cell = min(CELL, max(min(height, width) // 8, 1))
    small: Any = cv2.resize(rgb, (max(width // cell, 1), max(height // cell, 1)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


DRAWN: dict[str, Callable[[Pixels], Pixels]] = {"canny": canny, "sobel": sobel, "color": color}
"""The function that computes a map from an RGB image, by kind of control."""
