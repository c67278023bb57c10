"""Converts layouts of MRGD (its ``region_configs``, and the parameters text of its images) to the fields of a scene.

Records under ``bbox_controls``: enable, x, y, w, h (fractions of the canvas), prompt, neg_prompt, blend_mode,
feather_ratio (of half of the shorter side), seed (-1: none), key_prompt (comma-separated). An image's parameters text
has the same records under ``Region control``.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.shapes.geometry import Box
from cloisonne.scene.values import brief

KEY = "bbox_controls"
BEHIND = -1
"""Priority of Background records."""
_MODES = ("Background", "Foreground", "AdditionForeground", "RemovalForeground", "EditedSource", "EditedTarget")
_ROUNDING = 1e-4
"""Layouts write fractions with four digits."""
_PNG = re.compile(r"Tiled Diffusion: (\"(?:[^\"\\]|\\.)*\")")
_NO_PROMPT = ("Negative prompt:", "Steps:")
"""Start of a parameters text whose prompt is empty."""


def is_layout(data: Any) -> bool:
    """Whether a JSON object is an MRGD layout."""
    return isinstance(data, Mapping) and KEY in data


def layout_of(text: str) -> dict[str, Any]:
    """Parse the layout in the parameters text of an MRGD image. Raises SceneError if there is none."""
    found = _PNG.search(text)
    try:
        value: Any = ast.literal_eval(ast.literal_eval(found.group(1))) if found else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        value = None
    records = value.get("Region control") if isinstance(value, Mapping) else None
    if not isinstance(records, Mapping):
        raise SceneError(
            f'The text {brief(text[:60])} has no "Tiled Diffusion: ..." with a "Region control"; give the parameters '
            "text of an image that MRGD generated with regions."
        )
    return {KEY: list(records.values())}


def caption_of(text: str) -> str:
    """The prompt of the whole image: the first line of a parameters text; "" if it has none."""
    first = text.split("\n", 1)[0].strip()
    return "" if first.startswith(_NO_PROMPT) else first


def scene_fields(
    data: Mapping[str, Any], caption: str = "", report: Callable[[str], object] = lambda message: None
) -> dict[str, Any]:
    """Convert a layout to the fields of a scene. Records that are not enabled are skipped.

    Args:
        data: the layout.
        caption: prompt of the whole image.
        report: called with a sentence for each box that was clipped to the canvas.

    Raises:
        SceneError: a record is invalid; names its region.
    """
    records = data.get(KEY)
    if not isinstance(records, Sequence) or isinstance(records, str) or not records:
        raise SceneError(f"{KEY} is {brief(records)}; give a list of records with x, y, w, h, prompt and blend_mode.")
    named = [(f"region-{k}", record) for k, record in enumerate(records)]
    enabled = [(name, record) for name, record in named if _enabled(record, name)]
    if not enabled:
        raise SceneError(f"None of the {len(records)} records of {KEY} is enabled; enable one.")
    for name, record in enabled:
        if (mode := record.get("blend_mode")) not in _MODES:
            raise SceneError(f"blend_mode is {brief(mode)}; give one of {', '.join(_MODES)}.", region=name)
    return {"caption": caption, "regions": _joined([(name, r, _box(r, name, report)) for name, r in enabled])}


def _enabled(record: Any, name: str) -> bool:
    if not isinstance(record, Mapping):
        raise SceneError(f"The record is {brief(record)}; give an object with x, y, w, h and blend_mode.", region=name)
    enable = record.get("enable", True)
    if not isinstance(enable, bool):
        raise SceneError(f"enable is {brief(enable)}; give true or false.", region=name)
    return enable


def _joined(placed: Sequence[tuple[str, Mapping[str, Any], Box]]) -> list[dict[str, Any]]:
    """One region per record. EditedSource and EditedTarget become one edit, with the other fields of the target."""
    targets = [one for one in placed if one[1]["blend_mode"] == "EditedTarget"]
    regions: list[dict[str, Any]] = []
    for name, record, box in placed:
        mode = record["blend_mode"]
        if mode == "EditedSource":
            half = next((one for one in targets if one[2] == box), None)
            if half is None:
                raise SceneError("EditedSource has no EditedTarget of the same box; give both.", region=name)
            targets.remove(half)
            edit = {"kind": "change", "from": _prompt(record, name), "to": _prompt(half[1], half[0])}
            regions.append(_common(half[1], name, box) | {"edit": edit})
        elif mode != "EditedTarget":
            regions.append(_common(record, name, box) | _condition(mode, _prompt(record, name)))
    if targets:
        raise SceneError("EditedTarget has no EditedSource of the same box; give both.", region=targets[0][0])
    return regions


def _condition(mode: str, prompt: str) -> dict[str, Any]:
    if mode == "Background":
        return {"phrase": prompt, "priority": BEHIND}
    if mode == "Foreground":
        return {"phrase": prompt}
    return {"edit": {"kind": "add" if mode == "AdditionForeground" else "remove", "phrase": prompt}}


def _common(record: Mapping[str, Any], name: str, box: Box) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": name, "box": list(box), "negative": _text(record, "neg_prompt", name)}
    fields["keywords"] = [word.strip() for word in _text(record, "key_prompt", name).split(",") if word.strip()]
    if ratio := _number(record, "feather_ratio", name, missing=0.2):
        # MRGD's ratio is of half of the shorter side; a region's feather is of the whole side.
        fields["feather"] = ratio / 2
    if (seed := record.get("seed")) != -1:
        fields["seed"] = seed
    return fields


def _text(record: Mapping[str, Any], field: str, name: str) -> str:
    text = record.get(field) or ""
    if not isinstance(text, str):
        raise SceneError(f"{field} is {brief(text)}; give text, or leave it out.", region=name)
    return text.strip()


def _prompt(record: Mapping[str, Any], name: str) -> str:
    prompt = record.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise SceneError(f"prompt is {brief(prompt)}; describe what belongs there.", region=name)
    return prompt.strip()


def _box(record: Mapping[str, Any], name: str, report: Callable[[str], object]) -> Box:
    x, y, w, h = (_number(record, field, name) for field in ("x", "y", "w", "h"))
    given = f"box x {x:g}, y {y:g}, w {w:g}, h {h:g}"
    box = (x, y, min(x + w, 1.0), min(y + h, 1.0))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise SceneError(f"The {given} is empty; give it a size inside the image.", region=name)
    if max(x + w, y + h) > 1 + _ROUNDING:
        report(f'Region "{name}": its {given} reaches outside the image and was clipped.')
    return box


def _number(record: Mapping[str, Any], field: str, name: str, missing: float | None = None) -> float:
    value = record.get(field, missing)
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= number <= 1:
        raise SceneError(f"{field} is {brief(value)}; give a fraction from 0 to 1.", region=name)
    return float(number)
