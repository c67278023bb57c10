"""Export scenes to other tools' formats, as far as these can hold a scene."""

from typing import Any

from cloisonne.scene.io.elements import BACKGROUND, CAPTION, GRID, LIST, PARTS
from cloisonne.scene.prompt import plain
from cloisonne.scene.scene import Scene

_CARRIED = {"name", "box", "phrase", "priority"}
"""Fields of a region that elements have too."""


def to_elements(scene: Scene) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The elements of a scene as the whole object, and a sentence for each part of it that they cannot hold.

    A region becomes its bounding box and its phrase without weights. Of two regions of one priority the earlier one
    lies above the later one.
    """
    warnings: list[str] = []
    elements = []
    order = sorted(enumerate(scene.regions), key=lambda one: (one[1].priority, -one[0]))
    written = scene.to_dict()["regions"] if scene.regions else []
    for index, region in order:
        desc = plain(region.phrase).strip()
        if not region.active or not desc:
            why = "has weight 0" if not region.active else "has no phrase"
            warnings.append(f'Region "{region.name}" {why} and was left out.')
            continue
        lost = [field for field in written[index] if field not in _CARRIED]
        if lost:
            warnings.append(f'Region "{region.name}": elements have no {", ".join(lost)}.')
        x0, y0, x1, y1 = (round(GRID * side) for side in region.bounding_box())
        elements.append({"type": "obj", "bbox": [y0, x0, max(y1, y0 + 1), max(x1, x0 + 1)], "desc": desc})
    caption = plain(scene.caption)
    return {CAPTION: caption, PARTS: {BACKGROUND: caption, LIST: elements}}, tuple(warnings)
