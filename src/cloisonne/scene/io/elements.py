"""ComfyUI's ``elements``: boxes of an image on a grid of 1000 x 1000, from back to front, each with a description.

The nodes "Create Bounding Boxes" and "Build JSON Prompt" exchange them, and so do structured captions of Ideogram 4:

    {"high_level_description": ..., "compositional_deconstruction": {"background": ..., "elements": [
        {"type": "obj", "bbox": [y_min, x_min, y_max, x_max], "desc": ...},
        {"type": "text", "bbox": [...], "text": ..., "desc": ...}]}}

The list alone, {"elements": [...]}, and the value of ``compositional_deconstruction`` alone are read too.
"""

from collections.abc import Callable, Mapping
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.prompt import escaped
from cloisonne.scene.values import brief

GRID = 1000
"""Side of the grid of the boxes."""
CAPTION, PARTS, BACKGROUND, LIST = "high_level_description", "compositional_deconstruction", "background", "elements"


def is_elements(data: Any) -> bool:
    """Whether a JSON object has ComfyUI's elements."""
    return isinstance(data, Mapping) and (PARTS in data or LIST in data)


def scene_fields(data: Any, report: Callable[[str], object] = lambda message: None) -> dict[str, Any]:
    """Convert elements to the fields of a scene. Later elements lie above earlier ones (``overlap``: "priority").

    The caption is the description of the whole image, else that of the background. An element without a box is added
    to the caption. Texts are taken literally.

    Args:
        data: one of the forms above.
        report: called with a sentence for each element without a box.

    Raises:
        SceneError: an element is invalid; names its region.
    """
    whole = data if isinstance(data, Mapping) else {LIST: data}
    parts = whole.get(PARTS, whole)
    elements = parts.get(LIST) if isinstance(parts, Mapping) else None
    if not isinstance(elements, list):
        raise SceneError(f"{LIST} is {brief(elements)}; give a list of objects with bbox and desc.")
    captions = [_text(whole, CAPTION, None) or _text(parts, BACKGROUND, None)]
    regions: list[dict[str, Any]] = []
    for index, element in enumerate(elements):
        name = f"region-{index}"
        if not isinstance(element, Mapping):
            raise SceneError(f"The element is {brief(element)}; give an object with bbox and desc.", region=name)
        phrase = _phrase(element, name)
        if element.get("bbox") is None:
            captions.append(phrase)
            report(f"Element {index} has no bbox; its description was added to the caption.")
        else:
            regions.append({"name": name, "box": _box(element["bbox"], name), "phrase": phrase, "priority": index})
    caption = ", ".join(text for text in captions if text)
    return {"caption": caption, "regions": regions} | ({"overlap": "priority"} if regions else {})


def _phrase(element: Mapping[str, Any], name: str) -> str:
    kind = element.get("type", "obj")
    if kind not in ("obj", "text"):
        raise SceneError(f'type is {brief(kind)}; give "obj" or "text".', region=name)
    desc, text = _text(element, "desc", name), _text(element, "text", name)
    if kind == "text" and text:
        return f'{desc} with the text "{text}"' if desc else f'the text "{text}"'
    if not desc:
        raise SceneError(f"desc is {brief(element.get('desc'))}; describe what belongs there.", region=name)
    return desc


def _text(data: Mapping[str, Any], field: str, name: str | None) -> str:
    text = data.get(field) or ""
    if not isinstance(text, str):
        raise SceneError(f"{field} is {brief(text)}; give text, or leave it out.", region=name)
    return escaped(text.strip())


def _box(given: Any, name: str) -> list[float]:
    numbers: list[Any] = given if isinstance(given, list) and len(given) == 4 else [None]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one <= GRID for one in numbers):
        raise SceneError(
            f"bbox is {brief(given)}; give [y_min, x_min, y_max, x_max], numbers from 0 to {GRID}.", region=name
        )
    y0, x0, y1, x1 = (one / GRID for one in numbers)
    return [x0, y0, x1, y1]
