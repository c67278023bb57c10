"""What a detector gives: boxes of classes that are named in words. Imports no network library."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cloisonne.scene import Box
from cloisonne.scene.shapes.geometry import clipped, iou

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SAME = 0.8
"""Of two boxes of one class with a greater IoU, the less confident one is dropped; COCO-MIG has the same limit."""


class Detection(NamedTuple):
    """A detected object: its box in fractions of the image, and the confidence in [0, 1]."""

    box: Box
    score: float


class Detector(Protocol):
    """A zero-shot detector."""

    def find(self, rgb: Picture, labels: Sequence[str]) -> dict[str, list[Detection]]:
        """The objects of each class in an image, uint8 [H, W, 3], the most confident first.

        Each class is looked for by itself, so that the others do not change its boxes.
        """
        ...

    def classify(self, rgb: Picture, labels: Sequence[str]) -> str:
        """The class of the most confident box in an image, uint8 [H, W, 3], of any confidence."""
        ...


class Segmenter(Protocol):
    """Segments the object in a box."""

    def __call__(self, rgb: Picture, boxes: Sequence[Box]) -> list[Mask]:
        """The pixels [H, W] of the object in each box of an image, uint8 [H, W, 3]."""
        ...


def distinct(boxes: Sequence[Sequence[float]], scores: Sequence[float]) -> list[Detection]:
    """The detections of one class, the most confident first: clipped, without empty ones and repetitions.

    boxes: fractions (x0, y0, x1, y1), which may exceed the image.
    """
    separate: list[Detection] = []
    for place in np.argsort(-np.asarray(scores, float), kind="stable"):
        x0, y0, x1, y1 = (float(value) for value in boxes[place])
        box = clipped((x0, y0, x1, y1))
        empty = box[0] >= box[2] or box[1] >= box[3]
        if not empty and all(iou(box, other.box) <= SAME for other in separate):
            separate.append(Detection(box, float(scores[place])))
    return separate
