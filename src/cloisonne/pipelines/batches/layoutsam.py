"""Rows of LayoutSAM (CreatiLayout, Zhang et al., ICCV 2025, arXiv 2412.03859), exported as JSON, as scenes.

A row has ``global_caption`` and, in pixels of ``width`` and ``height``, boxes [x0, y0, x1, y1]: either as lists
(``bbox_list``, ``region_captions``, ``detail_region_captions``; each may be a text that holds the list), or as objects
(``metadata`` with ``bbox_info`` and ``image_info``).
"""

import ast
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.prompt import escaped
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import clipped
from cloisonne.scene.values import brief


def is_layoutsam(data: Mapping[str, Any]) -> bool:
    """Whether an object is such a row."""
    inner = data.get("metadata")
    return "bbox_list" in data or (isinstance(inner, Mapping) and "bbox_info" in inner)


def from_layoutsam(data: Mapping[str, Any]) -> tuple[Any, Scene, tuple[str, ...]]:
    """The name, the scene and the warnings of a row. The detailed captions are the phrases, where there are any.

    The canvas is that of the model: boxes become fractions. Raises SceneError.
    """
    row = _flat(data)
    size: list[Any] = [row.get("width"), row.get("height")]
    if not all(type(side) in (int, float) and side > 0 for side in size):
        raise SceneError(f"width and height are {brief(size[0])} and {brief(size[1])}; give the image's, in pixels.")
    boxes, phrases = _list(row, "bbox_list"), _list(row, "detail_region_captions") or _list(row, "region_captions")
    if len(boxes) != len(phrases):
        raise SceneError(f"The row has {len(boxes)} boxes and {len(phrases)} captions of regions; give one for each.")
    regions, warnings = [], []
    for place, (box, phrase) in enumerate(zip(boxes, phrases, strict=True)):
        numbers = box if isinstance(box, list | tuple) else ()
        if len(numbers) != 4 or not all(type(one) in (int, float) for one in numbers) or not isinstance(phrase, str):
            raise SceneError(f"Region {place} is {brief(box)} with {brief(phrase)}; give [x0, y0, x1, y1] and a text.")
        x0, y0, x1, y1 = (float(one) / side for one, side in zip(numbers, (*size, *size), strict=True))
        own = clipped((x0, y0, x1, y1))
        if own[0] < own[2] and own[1] < own[3]:
            regions.append(Region(box=own, phrase=escaped(phrase.strip())))
        else:
            warnings.append(f"Region {place} lies outside of the canvas and is left out.")
    caption = row.get("global_caption") or ""
    if not isinstance(caption, str):
        raise SceneError(f"global_caption is {brief(caption)}; give a text.")
    return _name(row), Scene(caption=escaped(caption.strip()), regions=regions), tuple(warnings)


def _flat(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with lists, of a row with objects."""
    inner = data.get("metadata")
    if "bbox_list" in data or not isinstance(inner, Mapping):
        return data
    about, boxes = inner.get("image_info"), inner["bbox_info"]
    if not isinstance(about, Mapping) or not isinstance(boxes, list) or not all(isinstance(b, dict) for b in boxes):
        raise SceneError("metadata has not bbox_info, a list of objects, and image_info; give both.")
    details = [box.get("detail_description") or box.get("description") for box in boxes]
    own = {"bbox_list": [box.get("bbox") for box in boxes], "detail_region_captions": details}
    return {**about, **{name: data[name] for name in ("name",) if name in data}, **inner, **own}


def _list(row: Mapping[str, Any], name: str) -> list[Any]:
    value = row.get(name)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                value = None
        if not isinstance(value, list):
            raise SceneError(f"{name} is {brief(row[name])}; give a list, or a text that holds one.")
    if value is not None and not isinstance(value, list):
        raise SceneError(f"{name} is {brief(value)}; give a list.")
    return value or []


def _name(row: Mapping[str, Any]) -> Any:
    for name in ("name", "file_name", "image_id"):
        if row.get(name) not in (None, ""):
            value = str(row[name])
            return PurePosixPath(value).stem if name == "file_name" else value
    raise SceneError("The row has none of name, file_name and image_id; add one, by which its image is called.")
