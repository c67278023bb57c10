"""Reads and writes the JSON text of scenes, and rewrites the image references in it."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.conditions.kinds import CONDITIONS, ConditionField, is_reference
from cloisonne.scene.values import brief, quoted

MAX_BYTES = 256 * 2**20
"""Longest text of a scene that is read."""

ChangePicture = Callable[[Any, str, str | None], Any]
"""(image reference in JSON, its role such as "mask", name of the region) -> new reference."""


def read(path: str | Path) -> bytes:
    """Read a scene's file, or standard input if ``path`` is "-". Raises SceneError if it cannot be read."""
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SceneError(f"The scene {quoted(path)} cannot be read ({reason}); check the path.") from None


def parse(text: str | bytes) -> dict[str, Any]:
    """Parse a scene's JSON text. Raises SceneError if it is not a JSON object, or names a field twice."""
    if len(text) > MAX_BYTES:
        raise SceneError(f"The scene's text is longer than {MAX_BYTES >> 20} MiB; give its images as files.")
    try:
        data = json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise SceneError(f"The scene is not JSON ({error.msg} at {place}); correct it there.") from None
    except UnicodeDecodeError as error:
        raise SceneError(
            f"The scene is neither a PNG nor text in UTF-8 (byte {error.start}); give JSON saved as UTF-8."
        ) from None
    except SceneError:
        raise
    except (ValueError, RecursionError) as error:
        raise SceneError(f"The scene is not JSON that can be read ({error}); write it as in the examples.") from None
    if not isinstance(data, dict):
        raise SceneError(f"The scene is {brief(data)}; give a JSON object with caption and regions.")
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise SceneError(f"The field {brief(name)} is given twice in one object; keep one of them.")
        found[name] = value
    return found


def text(data: Mapping[str, Any]) -> str:
    """Format a scene's object as JSON, with one line per field and per region."""
    fields = [f"{json.dumps(name)}: {_line(value)}" for name, value in data.items() if name != "regions"]
    if "regions" in data:
        lines = ",\n".join(f"  {_line(region)}" for region in data["regions"])
        fields.append(f'"regions": [\n{lines}]')
    return "{" + ",\n ".join(fields) + "}\n"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def with_pictures(data: Mapping[str, Any], change: ChangePicture) -> dict[str, Any]:
    """Return a scene's object with each image reference changed by ``change``. Malformed parts are not changed."""
    changed = dict(data)
    if data.get("background") is not None:
        changed["background"] = change(data["background"], "background", None)
    if isinstance(outside := data.get("outside"), Mapping):
        images = {field: outside[field] for field in ("image", "mask") if outside.get(field) is not None}
        roles = {"image": "outside", "mask": "mask"}
        changed["outside"] = {**outside, **{field: change(one, roles[field], None) for field, one in images.items()}}
    if isinstance(data.get("regions"), list | tuple):
        changed["regions"] = [_of_region(region, change) for region in data["regions"]]
    return changed


def _of_region(region: Any, change: ChangePicture) -> Any:
    if not isinstance(region, Mapping):
        return region
    changed, name = dict(region), region.get("name")
    if changed.get("mask") is not None:
        changed["mask"] = change(changed["mask"], "mask", name)
    for row in CONDITIONS.values():
        if changed.get(row.name) is not None:
            changed[row.name] = _of_condition(changed[row.name], row, change, name)
    return changed


def _of_condition(value: Any, row: ConditionField, change: ChangePicture, region: str | None) -> Any:
    if not is_reference(value):
        files = {name: role for name, role in row.files.items() if value.get(name) is not None}
        return {**value, **{name: change(value[name], role, region) for name, role in files.items()}}
    return change(value, row.files[row.bare], region) if row.bare else value


def from_folder(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make paths that are relative to ``folder`` relative to the current folder."""
    return with_pictures(data, lambda picture, *_: _with_path(picture, lambda path: str(folder / path)))


def to_folder(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The inverse of :func:`from_folder`: make all paths relative to ``folder``."""
    return with_pictures(data, lambda picture, *_: _with_path(picture, lambda path: relative(path, folder)))


def relative(path: str | Path, folder: Path) -> str:
    """``path`` relative to ``folder``, with forward slashes; only its name if there is no relative path."""
    try:
        return Path(os.path.relpath(os.path.realpath(path), os.path.realpath(folder))).as_posix()
    except ValueError:
        return Path(path).name


def _with_path(picture: Any, change: Callable[[str], str]) -> Any:
    if isinstance(picture, Mapping) and isinstance(picture.get("path"), str):
        return {**picture, "path": change(picture["path"])}
    if isinstance(picture, str) and picture and not picture.startswith("data:") and "://" not in picture:
        return change(picture)
    return picture
