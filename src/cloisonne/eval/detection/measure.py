"""The figures of one image against its layout, from a detector's boxes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from cloisonne.eval.detection.colours import has_colour
from cloisonne.eval.detection.detector import Detection, Detector, Mask, Picture, Segmenter
from cloisonne.eval.detection.layouts import BoxLayout, Instance
from cloisonne.eval.detection.spatial import position_score, spatial_score
from cloisonne.scene import Box
from cloisonne.scene.shapes.geometry import iou, pixel_window

MIN_IOU = 0.5
MARGIN = 1 / 16
"""Leakage is measured at more than this distance from the boxes of its class, as a fraction of the canvas."""
_GRID = 128
"""Leakage is counted on this many cells to a side."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of one instance.

    found: an object of the class has an IoU of at least ``MIN_IOU`` with the box. iou: that of the nearest such object,
    0 without any. crop: the box's crop is classified as the class. colour: the object has the colour in the phrase;
    None if it names none, or nothing was found. success: found, in the colour if the phrase names one. mig_iou: iou,
    but 0 for a found object of another colour. leakage: fraction of the canvas away from all boxes of the class that
    objects of the class cover. somewhere: an object of the class is anywhere.
    """

    found: bool
    iou: float
    crop: bool
    colour: bool | None
    success: bool
    mig_iou: float
    leakage: float
    somewhere: bool


@dataclass(frozen=True, kw_only=True)
class Judges:
    """A detector, and the segmenter whose masks colours are measured in; without one, in the detected box."""

    detector: Detector
    segmenter: Segmenter | None = None
    classes: Sequence[str]
    side: int | None = None

    def __call__(self, rgb: Picture, layout: BoxLayout) -> dict[str, Any]:
        """The item of an image, uint8 [H, W, 3]: "regions" with the ``Figures``, and those of the relation.

        score: T2I-CompBench's. both: both objects are found. position: the relation holds, if both are found.
        """
        if self.side is not None and rgb.shape[:2] != (self.side, self.side):
            rgb = np.asarray(cv2.resize(rgb, (self.side, self.side)), np.uint8)
        labels = list(dict.fromkeys(one.label for one in layout.instances))
        found = self.detector.find(rgb, labels)
        item: dict[str, Any] = {"regions": self._regions(rgb, layout.instances, found)}
        return {**item, **_related(layout, found)} if layout.relation else item

    def _regions(
        self, rgb: Picture, wanted: Sequence[Instance], found: dict[str, list[Detection]]
    ) -> list[dict[str, Any]]:
        nearest = [max(found[one.label], key=lambda other: iou(other.box, one.box), default=None) for one in wanted]
        overlap = [
            0.0 if other is None else iou(other.box, one.box) for one, other in zip(wanted, nearest, strict=True)
        ]
        coloured = [k for k, one in enumerate(wanted) if one.colour is not None and overlap[k] >= MIN_IOU]
        masks = dict(zip(coloured, self._masks(rgb, coloured, wanted, nearest), strict=True))
        regions = []
        for k, one in enumerate(wanted):
            is_found = overlap[k] >= MIN_IOU
            colour = has_colour(rgb, masks[k], one.colour) if one.colour is not None and k in masks else None
            boxes = [other.box for other in wanted if other.label == one.label]
            figures = Figures(
                found=is_found,
                iou=overlap[k],
                crop=self.detector.classify(_crop(rgb, one.box), self.classes) == one.label,
                colour=colour,
                success=is_found and colour is not False,
                mig_iou=0.0 if colour is False else overlap[k],
                leakage=leakage([other.box for other in found[one.label]], boxes),
                somewhere=bool(found[one.label]),
            )
            regions.append(asdict(figures))
        return regions

    def _masks(
        self, rgb: Picture, chosen: Sequence[int], wanted: Sequence[Instance], nearest: Sequence[Detection | None]
    ) -> list[Mask]:
        """The object's pixels of the chosen instances: segmented in the requested box, or all of the detected box."""
        if self.segmenter is not None and chosen:
            return self.segmenter(rgb, [wanted[k].box for k in chosen])
        boxes = [other.box for k in chosen if (other := nearest[k]) is not None]
        return [_inside(box, *rgb.shape[:2]) for box in boxes]


def leakage(found: Sequence[Box], boxes: Sequence[Box]) -> float:
    """Fraction of the canvas further than ``MARGIN`` from all ``boxes`` that the found ones cover; 0 without any."""
    middle = (np.arange(_GRID) + 0.5) / _GRID
    outside, covered = np.ones((_GRID, _GRID), bool), np.zeros((_GRID, _GRID), bool)
    for x0, y0, x1, y1 in boxes:
        near_x, near_y = ((middle >= low - MARGIN) & (middle <= high + MARGIN) for low, high in ((x0, x1), (y0, y1)))
        outside &= ~(near_y[:, None] & near_x[None])
    for x0, y0, x1, y1 in found:
        covered |= ((middle >= y0) & (middle <= y1))[:, None] & ((middle >= x0) & (middle <= x1))[None]
    return float(covered[outside].mean()) if outside.any() else 0.0


def _related(layout: BoxLayout, found: dict[str, list[Detection]]) -> dict[str, Any]:
    """The figures of the relation between the first two instances, each at its most confident detection."""
    best = [found[one.label][0] if found[one.label] else None for one in layout.instances[:2]]
    first, second = best
    score = spatial_score(layout.relation, best)
    if first is None or second is None:
        return {"score": score, "both": False, "position": None}
    return {"score": score, "both": True, "position": position_score(layout.relation, first.box, second.box) == 1}


def _crop(rgb: Picture, box: Box) -> Picture:
    rows, columns = pixel_window(box, rgb.shape[1], rgb.shape[0]).slices
    return np.ascontiguousarray(rgb[rows, columns])


def _inside(box: Box, height: int, width: int) -> Mask:
    mask = np.zeros((height, width), bool)
    mask[pixel_window(box, width, height).slices] = True
    return mask
