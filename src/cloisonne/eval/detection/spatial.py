"""T2I-CompBench's spatial prompts, with a box for each object (Huang et al., NeurIPS 2023, arXiv 2307.06350).

The score is that of its published harness, github.com/Karine-Huang/T2I-CompBench, UniDet_eval/2D_spatial_eval.py. The
benchmark has no boxes; those here are our own, two fixed ones by relation, so that methods with regions take part.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from cloisonne.errors import SceneError
from cloisonne.eval.detection.annotations import read_text
from cloisonne.eval.detection.layouts import BoxLayout, Instance, LayoutList, labels_of, numbered
from cloisonne.scene import Box
from cloisonne.scene.shapes.geometry import iou

FILE = "T2I-CompBench's prompts, such as spatial_val.txt"
NEAR = ("on side of", "next to", "near")
LEFT, RIGHT, TOP, BOTTOM = "on the left of", "on the right of", "on the top of", "on the bottom of"
RELATIONS = (LEFT, RIGHT, TOP, BOTTOM, *NEAR)
MOST_IOU = 0.1
"""Boxes with a greater IoU score less."""
DISTANCE = 150 / 479
"""Greatest distance of near objects, as a fraction of the canvas: 150 pixels of an image of 479."""
LEAST = 0.5
"""Lower scores count as 0."""
_PERSONS = ("girl", "boy", "man", "woman")
_PROMPT = re.compile(rf"an? (.+?) ({'|'.join(RELATIONS)}) an? (.+)")

_SIDES: tuple[Box, Box] = ((0.05, 0.2, 0.45, 0.8), (0.55, 0.2, 0.95, 0.8))
_STACKED: tuple[Box, Box] = ((0.2, 0.05, 0.8, 0.45), (0.2, 0.55, 0.8, 0.95))
_BOXES: dict[str, tuple[Box, Box]] = {
    **dict.fromkeys((LEFT, *NEAR), _SIDES),
    RIGHT: (_SIDES[1], _SIDES[0]),
    TOP: _STACKED,
    BOTTOM: (_STACKED[1], _STACKED[0]),
}
"""Boxes of the first and the second object."""


def read_spatial(path: Path) -> LayoutList:
    """The prompts of a file, one a line. Raises SceneError, with the line's number, for one of another form."""
    layouts = []
    for number, line in enumerate(read_text(path, FILE).splitlines(), 1):
        if prompt := line.strip():
            match = _PROMPT.fullmatch(prompt)
            if match is None:
                raise SceneError(
                    f'Line {number} of "{path}" is "{prompt}"; give {FILE}, where a line is "a cat on the left of a '
                    f'chair", with one of {", ".join(RELATIONS)}.'
                )
            first, relation, second = match.groups()
            layouts.append(_layout(prompt, relation, (first, second)))
    if not layouts:
        raise SceneError(f'"{path}" has no prompts; give {FILE}.')
    ordered = numbered(layouts)
    return LayoutList(name="spatial", layouts=ordered, classes=labels_of(ordered))


def _layout(prompt: str, relation: str, objects: Sequence[str]) -> BoxLayout:
    instances = tuple(
        Instance(label="person" if name in _PERSONS else name, phrase=f"a {name}", box=box)
        for name, box in zip(objects, _BOXES[relation], strict=True)
    )
    return BoxLayout(index=0, caption=prompt, instances=instances, relation=relation)


def position_score(relation: str, a: Box, b: Box) -> float:
    """How well box a is at its relation to box b, in [0, 1]. Boxes are fractions of a square canvas.

    To a side: 1 if the centres are further apart along the relation's axis than across it and the IoU is below
    ``MOST_IOU``, ``MOST_IOU`` / IoU if it is not, and 0 on the other side. Near: 1 if the centres are within
    ``DISTANCE`` along one axis, otherwise ``DISTANCE`` over the greater of both distances.
    """
    dx = ((b[0] + b[2]) - (a[0] + a[2])) / 2
    dy = ((b[1] + b[3]) - (a[1] + a[3])) / 2
    if relation in NEAR:
        return 1.0 if min(abs(dx), abs(dy)) < DISTANCE else DISTANCE / max(abs(dx), abs(dy))
    along, across = (dx, dy) if relation in (LEFT, RIGHT) else (dy, dx)
    if relation in (RIGHT, BOTTOM):
        along = -along
    if along <= 0 or along <= abs(across):
        return 0.0
    overlap = iou(a, b)
    return 1.0 if overlap < MOST_IOU else MOST_IOU / overlap


def spatial_score(relation: str, found: Sequence[tuple[Box, float] | None]) -> float:
    """The published score of an image, in [0, 1]: half the position's, and a quarter of each object's confidence.

    found: box and confidence of the first and the second object; None for one that was not detected. Without both
    there is no score for the position, and a score below ``LEAST`` is 0.
    """
    first, second = found
    total = sum(one[1] for one in found if one is not None) / 4
    if first is not None and second is not None:
        total += position_score(relation, first[0], second[0]) / 2
    return total if total >= LEAST else 0.0
