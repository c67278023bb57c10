"""Control maps that can be drawn of a picture without a network. Command, scenes and metrics share these."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LOW, HIGH = 100, 200
"""Thresholds of the gradient in Canny's method, as adapters were trained with."""

CELL = 64
"""Side in pixels of one colour of a colour map: 8 x 8 colours on 512 x 512 pixels."""

Pixels = NDArray[np.uint8]


def canny(rgb: Pixels) -> Pixels:
    """Edges of a picture uint8 [H, W, 3]: uint8 [H, W], 255 on an edge and 0 elsewhere."""
    return cv2.Canny(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), LOW, HIGH).astype(np.uint8)


def sobel(rgb: Pixels) -> Pixels:
    """Strength of the gradient: uint8 [H, W], 255 at the strongest of the picture."""
    grey: Any = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    strength = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    return np.rint(strength * (255 / max(float(strength.max()), 1.0))).astype(np.uint8)


def color(rgb: Pixels) -> Pixels:
    """Mean colours of cells, as squares: uint8 [H, W, 3]; cells are CELL pixels, smaller on small pictures."""
    height, width = rgb.shape[:2]
    cell = min(CELL, max(min(height, width) // 8, 1))
    small: Any = cv2.resize(rgb, (max(width // cell, 1), max(height // cell, 1)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


DRAWN: dict[str, Callable[[Pixels], Pixels]] = {"canny": canny, "sobel": sobel, "color": color}
"""By kind of control."""
