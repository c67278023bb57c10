"""Who finds the objects of a data set: a detector, or the built-in judge in images of the procedural world."""

import re
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cloisonne.eval.detection.detector import Detector
from cloisonne.eval.detection.sources import detector_folder
from cloisonne.scene import Box
from cloisonne.scene.shapes.geometry import iou
from cloisonne.world.glyphs import CORE

BUILTIN = "builtin"
MIN_IOU = 0.5
"""IoU with the box that was asked for, from which an object counts as found."""

Label = tuple[str, Box]
"""A phrase, and its box in fractions."""
Finder = Callable[[NDArray[np.uint8], Sequence[Label]], list[float | None]]
"""An image uint8 [h, w, 3] and its labels -> for each the IoU of its box with the nearest object of its phrase, 0
without any; None for a phrase that cannot be judged."""


def check_judge(judge: str) -> None:
    """Raise CheckpointError for anything but the name or the folder of a judge. Reads no weights."""
    if judge != BUILTIN:
        detector_folder(judge)


def finder_of(judge: str, device: str = "cpu") -> Finder:
    """Load a judge: "builtin", a detector's name, or its folder. Raises CheckpointError or CapabilityError."""
    if judge == BUILTIN:
        return _world_finder()
    from cloisonne.eval.detection.zero_shot import load_detector

    return detector_finder(load_detector(judge, device))


def detector_finder(detector: Detector) -> Finder:
    """A detector that looks for each phrase."""

    def find(rgb: NDArray[np.uint8], labels: Sequence[Label]) -> list[float | None]:
        phrases = list(dict.fromkeys(bare(phrase) for phrase, _ in labels))
        found = detector.find(rgb, phrases) if phrases else {}
        return [max((iou(one.box, box) for one in found[bare(phrase)]), default=0.0) for phrase, box in labels]

    return find


def _world_finder() -> Finder:
    from cloisonne.eval.judge import Judge
    from cloisonne.eval.layouts import Wanted
    from cloisonne.eval.metrics.layouts import measure
    from cloisonne.models.builtin import BUILTIN as folder

    judge = Judge.load(folder / "judge")

    def find(rgb: NDArray[np.uint8], labels: Sequence[Label]) -> list[float | None]:
        glyphs = [glyph_of(phrase) for phrase, _ in labels]
        wanted = [
            Wanted(char=glyph, colour=None, box=box, phrase=phrase)
            for glyph, (phrase, box) in zip(glyphs, labels, strict=True)
            if glyph is not None
        ]
        seen = iter(measure(rgb, wanted, judge).regions if wanted else ())
        return [None if glyph is None else next(seen).iou for glyph in glyphs]

    return find


def bare(phrase: str) -> str:
    """A phrase without its article, as detectors take classes."""
    return re.sub(r"^(an?|the)\s+", "", phrase.strip(), flags=re.IGNORECASE)


def glyph_of(phrase: str) -> str | None:
    """The world's object that a phrase names; None where it names none, or several."""
    text = f" {' '.join(re.findall(r'[a-z]+', phrase.lower()))} "
    named = [(len(word), char) for word, char in _words().items() if f" {word} " in text]
    longest = max((length for length, _ in named), default=0)
    chars = {char for length, char in named if length == longest}
    return chars.pop() if len(chars) == 1 else None


@cache
def _words() -> dict[str, str]:
    return {word: row.char for row in CORE for word in row.words}
