"""Metrics of a filled hole: identity, colour, similarity to the exemplar, seam, preservation of the rest."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cloisonne.eval.holes import Hole, gallery
from cloisonne.eval.judge import NONE, SIZE, Verdict
from cloisonne.eval.metrics.layouts import COLOUR_OF, Judging
from cloisonne.scene import Box
from cloisonne.world.glyphs import HELD_OUT

CONTEXT = 0.25
"""The crops of the Fréchet distance extend beyond the mask's box by this fraction of its sides."""


@dataclass(frozen=True, kw_only=True)
class Filled:
    """The figures of one item.

    identity: the crop's nearest glyph of the gallery is the exemplar's. colour: the crop has the exemplar's colour, if
    that was recoloured. similarity: cosine with the exemplar. seam: mean difference across the hole's border, in grey
    levels of 255. outside: largest difference outside the hole. fits, fits_box: IoU of the judge's object map with the
    mask, and with the mask's box (blobs only). crop: embedding of the hole with context, for distances.
    """

    identity: bool
    colour: bool | None
    similarity: float
    seam: float
    outside: int
    fits: float | None
    fits_box: float | None
    crop: Tensor


class Gallery:
    """Unit vectors [n, 64] of glyphs, each the mean of eight images; classifies by the nearest.

    chars: the held-out glyphs by default.
    """

    def __init__(self, judge: Judging, chars: Sequence[str] = HELD_OUT) -> None:
        self.chars = tuple(chars)
        pictures = gallery(np.random.default_rng(7), self.chars)
        seen = [F.normalize(judge(batch(row)).embedding, dim=1).mean(0) for row in pictures]
        self.vectors = F.normalize(torch.stack(seen), dim=1)

    def nearest(self, embedding: Tensor) -> str:
        """The glyph nearest to an embedding [64]."""
        return self.chars[int((self.vectors @ F.normalize(embedding, dim=0)).argmax())]


@torch.no_grad()
def fill_figures(rgb: NDArray[np.uint8], item: Hole, judge: Judging, known: Gallery) -> Filled:
    """Measure an image, uint8 [128, 128, 3], in which the item's hole was filled."""
    inner, outer = cut(rgb, item.box, 0.0), cut(rgb, item.box, CONTEXT)
    verdict: Verdict = judge(
        batch(np.stack([rgb, inner, outer, np.asarray(cv2.resize(item.exemplar, (SIZE, SIZE)), np.uint8)]))
    )
    own, exemplar = verdict.embedding[1], verdict.embedding[3]
    fits = fits_box = None
    if item.blob:
        likely = 1 - verdict.classes[0].softmax(0)[NONE]
        fine = F.interpolate(likely[None, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)[0, 0]
        bounding = np.zeros_like(item.mask)
        x0, y0, x1, y1 = (round(v * SIZE) for v in item.box)
        bounding[y0:y1, x0:x1] = True
        thing = (fine > 0.5).numpy() & bounding
        fits, fits_box = _iou(thing, item.mask), _iou(thing, bounding)
    return Filled(
        identity=known.nearest(own) == item.char,
        colour=COLOUR_OF[item.colour] == int(verdict.colour_scores()[1].argmax()) if item.colour else None,
        similarity=float(F.cosine_similarity(own, exemplar, dim=0)),
        seam=seam(rgb, item.mask),
        outside=int(np.abs(rgb.astype(int) - item.source)[~item.mask].max(initial=0)),
        fits=fits,
        fits_box=fits_box,
        crop=verdict.embedding[2],
    )


def cut(rgb: NDArray[np.uint8], box: Box, context: float) -> NDArray[np.uint8]:
    """The crop of a box, extended by ``context`` of its sides on each side, at the judge's size."""
    height, width = rgb.shape[:2]
    dx, dy = context * (box[2] - box[0]), context * (box[3] - box[1])
    x0, y0 = max(0, int((box[0] - dx) * width)), max(0, int((box[1] - dy) * height))
    x1, y1 = min(width, int(np.ceil((box[2] + dx) * width))), min(height, int(np.ceil((box[3] + dy) * height)))
    return cv2.resize(rgb[y0:y1, x0:x1], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def seam(rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Mean absolute difference of neighbouring pixels across the hole's border, in grey levels."""
    grey = rgb.astype(np.float32).mean(2)
    across = [np.abs(np.diff(grey, axis=axis))[np.diff(mask, axis=axis)] for axis in (0, 1)]
    found = np.concatenate(across)
    return float(found.mean()) if len(found) else 0.0


def spread(pictures: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Mean absolute difference in the hole between images [n, h, w, 3] of different seeds, in [0, 1]."""
    inside = pictures[:, mask].astype(np.float32) / 255
    pairs = [np.abs(a - b).mean() for i, a in enumerate(inside) for b in inside[i + 1 :]]
    return float(np.mean(pairs))


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def batch(rgb: NDArray[np.uint8]) -> Tensor:
    """Images, uint8 [n, 128, 128, 3], as input of the judge."""
    return torch.from_numpy(rgb).permute(0, 3, 1, 2).float() / 127.5 - 1
