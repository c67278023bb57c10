"""exemplars-v1: holes in world images, to be filled with a held-out subject of another image.

Item k is determined by its index. The hole covers an object of a training glyph; the ground truth has a held-out glyph
in its place; the exemplar is another image of that glyph: on another background, rotated, mirrored in half of the
items, recoloured in a quarter (together with the ground truth).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from cloisonne.scene import Box
from cloisonne.world.draw import draw
from cloisonne.world.glyphs import COLOURS, CORE, HELD_OUT, TRAINING, words_of
from cloisonne.world.hole_masks import blob, rectangle
from cloisonne.world.picture import BACKGROUNDS, Recipe, alone, sample

FIRST_SEED = 3 << 20
"""Far above the seeds of the layouts' lists, far below those of any training."""
REFERENCE = 1 << 18
"""Indices from here on are real images for the Fréchet distances; no row generates them."""
SIZE = 128
MARGIN = 0.12
"""The hole extends beyond the objects' boxes by up to this fraction of their longer side."""
GLYPHS: Mapping[str, tuple[str, ...]] = {
    "held-out": HELD_OUT,
    "training": TRAINING[len(CORE) :: (len(TRAINING) - len(CORE)) // 60][:60],
    "core": tuple(c.char for c in CORE),
}
"""Subjects of the holes, by name: glyphs that no training saw, 60 that only exemplars showed, those with words."""
_RECIPE = Recipe(counts=(1, 2, 2, 3), overlapping=0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Hole:
    """One item. Images are uint8 [128, 128, 3].

    source: the given image. mask: bool [128, 128], True = inpaint. truth: a possible answer. exemplar: another image
    of the same subject, cropped to it. char, colour: the subject. blob: whether the mask is irregular.
    """

    index: int
    source: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    truth: NDArray[np.uint8]
    exemplar: NDArray[np.uint8]
    char: str
    colour: str | None
    blob: bool

    @property
    def box(self) -> Box:
        """The mask's bounding box, as fractions."""
        return box_of(self.mask)

    @property
    def phrase(self) -> str:
        """The subject as a phrase, for rows that inpaint from text."""
        noun = words_of(self.char)[0]
        return f"a {self.colour} {noun}" if self.colour else f"a {noun}"


def hole(index: int, chars: Sequence[str] = HELD_OUT) -> Hole:
    """Item ``index``, with a subject of ``chars``."""
    rng = np.random.default_rng([FIRST_SEED + index, 20266])
    picture = sample(FIRST_SEED + index, _RECIPE)
    char = chars[int(rng.integers(len(chars)))]
    colour = COLOURS[int(rng.integers(len(COLOURS)))] if rng.random() < 0.25 else None
    k = len(picture.items) - 1
    target = replace(picture.items[k], char=char, colour=colour)
    truth = draw(replace(picture, items=(*picture.items[:k], target)))
    source = draw(picture)
    both = _joined(truth.boxes()[k], source.boxes()[k])
    irregular = bool(rng.random() < 0.25)
    return Hole(
        index=index,
        source=source.rgb,
        mask=_mask(both, irregular, rng),
        truth=truth.rgb,
        exemplar=exemplar(char, colour, picture.background, rng),
        char=char,
        colour=colour,
        blob=irregular,
    )


def exemplar(char: str, colour: str | None, unlike: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """An image of the glyph on a background other than ``unlike``, cropped to it with a small margin."""
    backgrounds = [name for name in BACKGROUNDS if name != unlike]
    drawn = draw(alone(char, colour, backgrounds, rng, FIRST_SEED))
    x0, y0, x1, y1 = drawn.boxes()[0]
    a, b = max(0, int(y0 * SIZE) - 2), min(SIZE, int(np.ceil(y1 * SIZE)) + 2)
    c, d = max(0, int(x0 * SIZE) - 2), min(SIZE, int(np.ceil(x1 * SIZE)) + 2)
    return drawn.rgb[a:b, c:d]


def pasted(item: Hole) -> NDArray[np.uint8]:
    """Copy and paste: the whole exemplar resized to the mask's box."""
    out = item.source.copy()
    x0, y0, x1, y1 = (round(v * SIZE) for v in item.box)
    out[y0:y1, x0:x1] = cv2.resize(item.exemplar, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    return np.where(item.mask[..., None], out, item.source)


def gallery(rng: np.random.Generator, chars: Sequence[str] = HELD_OUT, each: int = 8) -> NDArray[np.uint8]:
    """Images of glyphs, [n, each, 128, 128, 3], for classifying what was generated."""
    images = [[exemplar(char, None, "", rng) for _ in range(each)] for char in chars]
    return np.stack([np.stack([cv2.resize(p, (SIZE, SIZE)) for p in row]) for row in images]).astype(np.uint8)


def box_of(mask: NDArray[np.bool_]) -> Box:
    """Bounding box of a mask, as fractions."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    height, width = mask.shape
    return (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)


def _joined(a: Box, b: Box) -> Box:
    """The box around both boxes, plus two pixels for their soft edges."""
    e = 2 / SIZE
    return (
        max(0.0, min(a[0], b[0]) - e),
        max(0.0, min(a[1], b[1]) - e),
        min(1.0, max(a[2], b[2]) + e),
        min(1.0, max(a[3], b[3]) + e),
    )


def _mask(box: Box, irregular: bool, rng: np.random.Generator) -> NDArray[np.bool_]:
    reach = rng.uniform(0.04, MARGIN, 4) * max(box[2] - box[0], box[3] - box[1])
    wide = (
        max(0.0, box[0] - reach[0]),
        max(0.0, box[1] - reach[1]),
        min(1.0, box[2] + reach[2]),
        min(1.0, box[3] + reach[3]),
    )
    return blob(box, wide, SIZE, rng) if irregular else rectangle(wide, SIZE)
