"""Objects beyond those that were asked for, such as a second cat next to the one of a region.

The judge looks at the image reduced to its own size, which shows whole objects, and at overlapping windows of that
size, which show small ones. A separate object is a piece of what it takes for objects of any class; pieces that touch
in a neck of less than ``NECK`` of their width are two. The one in a region's box was asked for, and no other.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.eval.judge import NONE, SIZE
from cloisonne.eval.metrics.layouts import MIN_AREA, Judging
from cloisonne.scene import Box

NECK = 0.5
MARGIN = SIZE // 16
"""How far outside of its box the centre of an object may be, in pixels of the judge: one of its cells."""


class Surplus(NamedTuple):
    """Numbers of objects beyond those that were asked for.

    whole: of the image reduced to the judge's size. windows: by windows of that size; they count parts of large objects
    now and then, so that images in which nothing is repeated have about 0.4.
    """

    whole: int
    windows: int


def surplus(rgb: np.ndarray, boxes: Sequence[Box], judge: Judging) -> Surplus:
    """Count in an image, uint8 [h, w, 3], each side at least ``SIZE``; boxes: of the objects that were asked for."""
    height, width = rgb.shape[:2]
    scale = min(height, width) / SIZE
    small = cv2.resize(rgb, (round(width / scale), round(height / scale)), interpolation=cv2.INTER_AREA)
    # The same objects are the smallest that count at both sizes.
    whole = beyond(centres(likely(small, judge) > 0.5, MIN_AREA * SIZE**2 / scale**2), boxes, small.shape[:2], MARGIN)
    if scale == 1:
        return Surplus(whole, whole)
    found = centres(likely(rgb, judge) > 0.5, MIN_AREA * SIZE**2)
    return Surplus(whole, beyond(found, boxes, (height, width), MARGIN * scale))


@torch.no_grad()
def likely(rgb: np.ndarray, judge: Judging) -> np.ndarray:
    """[h, w]: how likely each pixel is of an object, the mean of windows that overlap by half."""
    height, width = rgb.shape[:2]
    pixels = torch.from_numpy(rgb.copy()).permute(2, 0, 1).float() / 127.5 - 1
    fading = 1 - (2 * (torch.arange(SIZE) + 0.5) / SIZE - 1).abs()
    fading = fading[:, None] * fading
    total, weight = torch.zeros(height, width), torch.zeros(height, width)
    for top, left in product(_places(height), _places(width)):
        window = (slice(top, top + SIZE), slice(left, left + SIZE))
        classes: Tensor = judge(pixels[None, :, *window]).classes
        seen = 1 - classes.softmax(1)[:, NONE : NONE + 1]
        total[window] += fading * F.interpolate(seen, (SIZE, SIZE), mode="bilinear", align_corners=False)[0, 0]
        weight[window] += fading
    return (total / weight).numpy()


def _places(length: int) -> list[int]:
    """Where windows begin, half a window apart; the last ends with the image."""
    return [*range(0, length - SIZE, SIZE // 2), length - SIZE]


def centres(mask: np.ndarray, least: float) -> list[tuple[float, float]]:
    """(x, y) of the separate objects of a mask [h, w], in pixels. least: area of the smallest that counts."""
    found: list[tuple[float, float]] = []
    _, labels, pieces, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for number, piece in enumerate(pieces[1:].tolist(), 1):
        if piece[cv2.CC_STAT_AREA] < least:
            continue
        padded = np.pad((labels == number).astype(np.uint8), 1)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
        cores = (depth > NECK * depth.max()).astype(np.uint8)
        found += [(float(x), float(y)) for x, y in cv2.connectedComponentsWithStats(cores, connectivity=8)[3][1:]]
    return found


def beyond(points: Sequence[tuple[float, float]], boxes: Sequence[Box], size: tuple[int, int], margin: float) -> int:
    """How many of the points (x, y) are in no box, or not the first in theirs.

    boxes: fractions of an image of size (h, w). A point in several boxes is in the one with the fewest so far.
    """
    height, width = size
    counts, outside = [0] * len(boxes), 0
    for x, y in points:
        inside = [
            place
            for place, (x0, y0, x1, y1) in enumerate(boxes)
            if x0 * width - margin <= x <= x1 * width + margin and y0 * height - margin <= y <= y1 * height + margin
        ]
        if inside:
            counts[min(inside, key=lambda place: counts[place])] += 1
        else:
            outside += 1
    return outside + sum(max(count - 1, 0) for count in counts)
