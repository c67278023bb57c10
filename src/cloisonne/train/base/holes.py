"""Holes in the base's training: an object is masked, and the network fills it in (arXiv 2211.13227, section 3.2)."""

from dataclasses import dataclass

import numpy as np

from cloisonne.scene.shapes.geometry import Box
from cloisonne.train.base.latents import LatentStore
from cloisonne.world.draw import draw
from cloisonne.world.hole_masks import blob, rectangle, stretched

BLOBS, WHOLE = 0.4, 0.08
"""Fractions of the holes that are blobs, and that cover the image; the others are rectangles."""
TIGHT = 0.5
"""Fraction of the holes that reach a little beyond the object, as users draw them; the others reach far."""
NULL = 0.15
"""Fraction of the holes without exemplar, for classifier-free guidance."""
OUTSIDE = 0.25
"""Weight of the error outside a hole, where the known image replaces the prediction at inference."""


@dataclass(frozen=True, kw_only=True)
class Hole:
    """An image, uint8 [h, w, 3], and its hole, bool [h, w]."""

    rgb: np.ndarray
    mask: np.ndarray


def hole(store: LatentStore, index: int, box: Box, rng: np.random.Generator) -> Hole:
    """A hole in a stored image around an object's box."""
    height, width = (8 * side for side in store.shape[1:])
    coins = rng.random(3)
    reach = _margin(box, rng) if coins[0] < TIGHT else stretched(box, rng)
    if coins[1] < WHOLE:
        mask = np.ones((height, width), bool)
    elif coins[2] < BLOBS:
        mask = blob(box, reach, height, rng)
    else:
        mask = rectangle(reach, height)
    return Hole(rgb=draw(store.picture(index), width, height).rgb, mask=mask)


def _margin(box: Box, rng: np.random.Generator) -> Box:
    """The box with each side moved outwards by 2 to 14 % of its longer side."""
    x0, y0, x1, y1 = box
    a, b, c, d = rng.uniform(0.02, 0.14, 4) * max(x1 - x0, y1 - y0)
    return (max(0.0, x0 - a), max(0.0, y0 - b), min(1.0, x1 + c), min(1.0, y1 + d))
