"""The mask image of Regional Prompter: one colour a region, with saturation and value 0.5, told apart by hue.

Hues in order are 0, 1/2, 1/4, 3/4, 1/8, 3/8, ... of the circle: each round halves the distances.
"""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from numpy.typing import NDArray

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.images import open_rgb

_HALF, _NEAR = 0.5, 0.015
"""Saturation and value of the colours, and how far a pixel's may be from them."""
_HUES = 64
"""Number of colours that are read."""
_SAME_HUE = 1 / 160


def hue(index: int) -> float:
    """Hue, in [0, 1), of the region ``index``."""
    if index == 0:
        return 0.0
    rounds = index.bit_length()
    return (2 * (index - 2 ** (rounds - 1)) + 1) / 2**rounds


def cell_masks(mask: ImageRef, count: int, *, remainder_to_first: bool) -> list[Bool[np.ndarray, "_ _"]]:
    """The masks [H, W] of the regions in the order of their colours.

    Args:
        mask: the image.
        count: number of texts.
        remainder_to_first: pixels of no region belong to the first one.

    Raises:
        SceneError: the image has another number of colours of regions than there are texts.
        ImageError: the image cannot be read.
    """
    pixels = np.asarray(open_rgb(mask, "mask"))
    colours, places = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    nearest = _regions_of(colours)[places].reshape(pixels.shape[:2])
    marked = nearest >= 0
    used = np.unique(nearest[marked])
    if len(used) != count:
        raise SceneError(f"The mask has {len(used)} colours of regions for {count} texts; give the image's own mask.")
    masks = [marked & (nearest == index) for index in used]
    if remainder_to_first:
        masks[0] |= ~marked
    return masks


def _regions_of(colours: UInt8[np.ndarray, "n 3"]) -> NDArray[np.intp]:
    """The region of each colour; -1 for colours of no region."""
    hsv = cv2.cvtColor((colours[None] / 255).astype(np.float32), cv2.COLOR_RGB2HSV)[0]
    marked = np.abs(hsv[:, 1:] - _HALF).max(axis=1) <= _NEAR
    distance = np.abs(hsv[:, :1] / 360 - np.array([hue(index) for index in range(_HUES)]))
    distance = np.minimum(distance, 1 - distance)
    return np.where(marked & (distance.min(axis=1) <= _SAME_HUE), distance.argmin(axis=1), -1)
