"""MRGD's own layouts (its ``region_configs``, and what its pictures carry) as the fields of a scene.

Records under ``bbox_controls``: enable, x, y, w, h (fractions of the canvas), prompt, neg_prompt, blend_mode,
feather_ratio (of half of the shorter side), seed (-1: none), key_prompt (comma list).
"""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.values import shown

KEY = "bbox_controls"
BEHIND = -1
"""The priority of backgrounds."""
_MODES = ("Background", "Foreground", "AdditionForeground", "RemovalForeground", "EditedSource", "EditedTarget")
_PNG = re.compile(r"Tiled Diffusion: (\"(?:[^\"\\]|\\.)*\"|\{.*?\}\}?)", re.DOTALL)


def is_layout(data: Any) -> bool:
    """Whether a JSON object is such a layout."""
    return isinstance(data, Mapping) and KEY in data


def layout_of(text: str) -> dict[str, Any]:
    """The layout in the text that MRGD writes into its pictures. SceneError where there is none."""
    found = _PNG.search(text)
    try:
        value: Any = ast.literal_eval(found.group(1)) if found else None
        value = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, Mapping):
        raise SceneError(f'The text {shown(text[:60])} holds no "Tiled Diffusion: {{...}}"; give a picture\'s text.')
    records = value.get(KEY) or [own for name, own in value.items() if str(name).startswith("Region ")]
    return {KEY: records if isinstance(records, Sequence) else list(records.values())}


def scene_fields(data: Mapping[str, Any], caption: str = "") -> dict[str, Any]:
    """The fields of a scene from a layout; caption: the prompt of the whole picture.

    Raises SceneError about the record that cannot be meant; those that are not enabled are left out.
    """
    given = data.get(KEY)
    records = list(given.values()) if isinstance(given, Mapping) else given
    if not isinstance(records, Sequence) or isinstance(records, str) or not records:
        raise SceneError(f"{KEY} is {shown(given)}; give a list of records with x, y, w, h, prompt and blend_mode.")
    named = [(f"region-{k}", _record(record, f"region-{k}")) for k, record in enumerate(records)]
    named = [(name, record) for name, record in named if record.get("enable", True)]
    if not named:
        raise SceneError(f"None of the {len(records)} records of {KEY} is enabled; enable one.")
    return {"caption": caption, "regions": _joined(named)}


def _record(record: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise SceneError(f"The record is {shown(record)}; give an object with x, y, w, h and blend_mode.", region=name)
    mode = record.get("blend_mode")
    if mode not in _MODES:
        raise SceneError(f"blend_mode is {shown(mode)}; give one of {', '.join(_MODES)}.", region=name)
    return record


def _joined(named: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """A region a record, the two halves of a change as one."""
    targets = {_box(r, name): (name, r) for name, r in named if r["blend_mode"] == "EditedTarget"}
    regions, used = [], set()
    for name, record in named:
        mode, box = record["blend_mode"], _box(record, name)
        if mode == "EditedSource":
            if box not in targets:
                raise SceneError("EditedSource has no EditedTarget of the same box; give both.", region=name)
            other, target = targets[box]
            used.add(other)
            edit = {"kind": "change", "from": _prompt(record, name), "to": _prompt(target, other)}
            regions.append(_common(target, name, box) | {"edit": edit})
        elif mode != "EditedTarget":
            regions.append(_common(record, name, box) | _said(mode, _prompt(record, name)))
    for name, record in named:
        if record["blend_mode"] == "EditedTarget" and name not in used:
            raise SceneError("EditedTarget has no EditedSource of the same box; give both.", region=name)
    return regions


def _said(mode: str, prompt: str) -> dict[str, Any]:
    if mode == "Background":
        return {"phrase": prompt, "priority": BEHIND}
    if mode == "Foreground":
        return {"phrase": prompt}
    return {"edit": {"kind": "add" if mode == "AdditionForeground" else "remove", "phrase": prompt}}


def _common(record: Mapping[str, Any], name: str, box: tuple[float, ...]) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": name, "box": list(box)}
    if negative := str(record.get("neg_prompt") or "").strip():
        fields["negative"] = negative
    if keywords := [word.strip() for word in str(record.get("key_prompt") or "").split(",") if word.strip()]:
        fields["keywords"] = keywords
    if ratio := _number(record, "feather_ratio", name, missing=0.2):
        # Of half of the shorter side there, of all of it here.
        fields["feather"] = ratio / 2
    seed = record.get("seed")
    if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0:
        fields["seed"] = seed
    return fields


def _prompt(record: Mapping[str, Any], name: str) -> str:
    prompt = record.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise SceneError(f"prompt is {shown(prompt)}; say what the region shows.", region=name)
    return prompt.strip()


def _box(record: Mapping[str, Any], name: str) -> tuple[float, float, float, float]:
    x, y, w, h = (_number(record, field, name) for field in ("x", "y", "w", "h"))
    box = (x, y, min(x + w, 1.0), min(y + h, 1.0))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise SceneError(f"The box x {x:g}, y {y:g}, w {w:g}, h {h:g} is empty; give it a size.", region=name)
    return box


def _number(record: Mapping[str, Any], field: str, name: str, missing: float | None = None) -> float:
    value = record.get(field, missing)
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= number <= 1:
        raise SceneError(f"{field} is {shown(value)}; give a fraction from 0 to 1.", region=name)
    return float(number)
