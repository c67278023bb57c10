"""Imports the JSON of GLIGEN's demos: ``prompt``, ``phrases`` and ``locations``, with ``images`` of the regions.

It is what ``gligen_inference.py`` takes as a dict. Boxes are (x0, y0, x1, y1) in fractions.
"""

from collections.abc import Mapping
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.io.interchange.imported_values import Report, inside, literal, numbers
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import brief

_CARRIED = ("prompt", "phrases", "locations", "images", "text_mask", "image_mask", "input_image")
_NEUTRAL = ("ckpt", "save_folder_name")


def is_gligen(data: Any) -> bool:
    """Whether a JSON object is one of GLIGEN's demos."""
    return isinstance(data, Mapping) and "locations" in data and ("phrases" in data or "images" in data)


def from_gligen_demo(data: Mapping[str, Any]) -> tuple[Scene, tuple[str, ...]]:
    """Make a scene from the JSON object of a GLIGEN demo.

    An image of a region becomes its exemplar, and ``input_image`` the background, by their paths.

    Raises:
        SceneError: the lists have different lengths, or a box is malformed; names its region.
    """
    warnings: list[str] = []
    boxes = _list(data, "locations", None)
    regions = []
    for index, given in enumerate(boxes):
        if region := _region(data, index, given, len(boxes), warnings.append):
            regions.append(region)
    fields: dict[str, Any] = {"caption": literal(data.get("prompt", "")), "regions": regions}
    if data.get("input_image"):
        fields["background"] = data["input_image"]
    rest = [f"{name}: {brief(value)}" for name, value in data.items() if name not in (*_CARRIED, *_NEUTRAL)]
    if rest:
        warnings.append(f"Not carried: {', '.join(rest)}.")
    return Scene(**fields), tuple(warnings)


def _list(data: Mapping[str, Any], name: str, count: int | None) -> list[Any]:
    """A list of the object, of ``count`` items; [] if it has none of that name."""
    found = data.get(name) or []
    if not isinstance(found, list) or (found and count is not None and len(found) != count):
        wanted = "a list" if count is None else f"a list of {count}, one for each of the locations"
        raise SceneError(f"{name} is {brief(found)}; give {wanted}.")
    return found


def _region(data: Mapping[str, Any], index: int, given: Any, count: int, report: Report) -> dict[str, Any] | None:
    name = f"region-{index}"
    x0, y0, x1, y1 = numbers(given, 4, "locations", name)
    phrase, image = (
        _used(data, *names, index, count) for names in (("phrases", "text_mask"), ("images", "image_mask"))
    )
    if x0 >= x1 or y0 >= y1:
        report(f'Region "{name}", {brief(phrase or image)}, has an empty box and was left out.')
        return None
    fields = {"phrase": literal(phrase)} if phrase else {}
    fields |= {"exemplar": image} if image else {}
    return {"name": name, "box": inside((x0, y0, x1, y1), name, report), **fields}


def _used(data: Mapping[str, Any], name: str, mask: str, index: int, count: int) -> Any:
    """The phrase or image of a region; None if it has none, or its mask is 0."""
    found, masks = _list(data, name, count), data.get(mask)
    used = masks[index] if isinstance(masks, list) and index < len(masks) else 1 if masks is None else masks
    return found[index] if found and used else None
