"""The judge's figures of one image, by region.

The judge classifies the whole image (dense map, 16 × 16 cells) and the crop of every requested box.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.eval.judge import CLASS_OF, NONE, SIZE, Verdict
from cloisonne.eval.layouts import Wanted
from cloisonne.scene import Box
from cloisonne.scene.shapes.geometry import iou
from cloisonne.world.glyphs import COLOURS
from cloisonne.world.picture import STYLES

MIN_AREA = 0.01
"""Area of the smallest object that counts, as a fraction of the canvas: a quarter of the smallest requested box."""
MIN_IOU = 0.5

COLOUR_OF = {colour: k for k, colour in enumerate(COLOURS)}
"""The places of the colours in ``Verdict.colour_scores``."""

Judging = Callable[[Tensor], Verdict]
"""Images [R, 3, 128, 128] in [-1, 1] -> Verdict: the judge, or a substitute."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures of one region."""

    iou: float
    """IoU of the requested box with the nearest object of the requested class; 0 if there is none."""
    crop: bool
    """Whether the box's crop is classified as the requested class among all glyphs."""
    colour: bool | None
    """Whether the crop's objects have the colour in the phrase, of the seven colours; None if it names none."""
    leakage: float
    """Fraction of the cells more than one cell away from the box that show the requested class."""
    somewhere: bool
    """Whether an object of the requested class is found anywhere in the image."""

    @property
    def found(self) -> bool:
        """Whether an object of the requested class has an IoU of at least 0.5 with the requested box."""
        return self.iou >= MIN_IOU


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The figures of one image, and its embeddings for Fréchet distances."""

    regions: tuple[Measured, ...]
    natural: bool
    """Whether the whole image is in the natural style."""
    whole: Tensor
    """float32 [64]."""
    crops: Tensor
    """float32 [regions, 64], in the regions' order."""


class DenseMap:
    """The objects of one image, from the judge's class logits [1 + glyphs, cells, cells].

    A cell's class is its most likely glyph, with probability 1 - p(none). An *object* of a class is a connected
    component (8 neighbours) of the pixels where this probability, interpolated bilinearly from the centres of the
    class's cells, is above one half. Interpolation locates edges within cells; a box around whole cells can be off by a
    cell on every side, a third of a small object. A component below ``MIN_AREA`` is noise.

    The judge is trained with *none* weighted down (0.3), so that one half means that a quarter of a cell's surroundings
    is object. This compensates for the thin parts of a glyph (wings, wheels, tails) that belong to its tight box.
    """

    def __init__(self, classes: Tensor) -> None:
        probabilities = classes.softmax(0)
        self._any = 1 - probabilities[NONE]
        self._class = probabilities[1:].argmax(0) + 1

    def objects(self, number: int) -> list[Box]:
        """Boxes, as fractions, of the objects of a class (its number in ``CLASS_OF``)."""
        likely = torch.where(self._class == number, self._any, 0.0)
        fine = F.interpolate(likely[None, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)[0, 0]
        mask = (fine > 0.5).numpy().astype(np.uint8)
        _, _, pieces, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        large = (piece for piece in pieces[1:].tolist() if piece[cv2.CC_STAT_AREA] >= MIN_AREA * SIZE**2)
        return [(x / SIZE, y / SIZE, (x + w) / SIZE, (y + h) / SIZE) for x, y, w, h, _ in large]

    def leakage(self, number: int, box: Box) -> float:
        """Fraction of the cells more than one cell outside the box that show the class."""
        side = self._any.shape[0]
        middle = (torch.arange(side) + 0.5) / side
        x0, y0, x1, y1 = (v + e / side for v, e in zip(box, (-1, -1, 1, 1), strict=True))
        inside = ((middle >= y0) & (middle <= y1))[:, None] & ((middle >= x0) & (middle <= x1))[None]
        shows = (self._class == number) & (self._any > 0.5)
        return float(shows[~inside].float().mean()) if bool((~inside).any()) else 0.0


@torch.no_grad()
def measure(rgb: np.ndarray, wanted: Sequence[Wanted], judge: Judging) -> Seen:
    """Measure an image, uint8 [h, w, 3], against the requested regions."""
    verdict = judge(_pictures([rgb, *(crop(rgb, region.box) for region in wanted)]))
    dense = DenseMap(verdict.classes[0])
    class_of_crop = verdict.object_scores()[1:].argmax(1) + 1
    colour_of_crop = verdict.colour_scores()[1:].argmax(1)
    regions = []
    for k, region in enumerate(wanted):
        number = CLASS_OF[region.char]
        objects = dense.objects(number)
        regions.append(
            Measured(
                iou=float(max((iou(found, region.box) for found in objects), default=0.0)),
                crop=int(class_of_crop[k]) == number,
                colour=COLOUR_OF[region.colour] == int(colour_of_crop[k]) if region.colour else None,
                leakage=dense.leakage(number, region.box),
                somewhere=bool(objects),
            )
        )
    natural = STYLES[int(verdict.styles[0].argmax())] == "natural"
    return Seen(regions=tuple(regions), natural=natural, whole=verdict.embedding[0], crops=verdict.embedding[1:])


def crop(rgb: np.ndarray, box: Box) -> np.ndarray:
    """The crop of a box, in whole pixels of an image uint8 [h, w, 3], resized to the judge's size."""
    h, w = rgb.shape[:2]
    x0, y0, x1, y1 = int(box[0] * w), int(box[1] * h), int(np.ceil(box[2] * w)), int(np.ceil(box[3] * h))
    return cv2.resize(rgb[y0:y1, x0:x1], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def _pictures(rgb: Sequence[np.ndarray]) -> Tensor:
    sized = [
        p if p.shape[:2] == (SIZE, SIZE) else cv2.resize(p, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for p in rgb
    ]
    return torch.from_numpy(np.stack(sized)).permute(0, 3, 1, 2).float() / 127.5 - 1
