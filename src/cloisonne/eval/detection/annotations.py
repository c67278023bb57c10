"""Reads annotation files: JSON and YAML objects of a given form."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.extras import check_extra
from cloisonne.scene import Box
from cloisonne.scene.shapes.geometry import clipped


def read_object(path: Path, what: str) -> dict[str, Any]:
    """The JSON or YAML object in a file, by its suffix. what: the kind of file, for messages. Raises SceneError."""
    text = read_text(path, what)
    if path.suffix.lower() in (".yaml", ".yml"):
        check_extra("eval", f'"{path}", a YAML file,', "yaml")
        import yaml

        parse: Any = lambda text: yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: E731
        damaged: type[Exception] = yaml.YAMLError
    else:
        parse, damaged = json.loads, ValueError
    try:
        value = parse(text)
    except (damaged, RecursionError) as error:
        raise SceneError(f'"{path}" cannot be read ({_first_line(error)}); give {what}.') from error
    if not isinstance(value, dict):
        raise SceneError(f'"{path}" holds no object of names and values; give {what}.')
    return value


def read_text(path: Path, what: str) -> str:
    """The text of a file. Raises SceneError, which names what kind of file is needed."""
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SceneError(f'There is no file "{path}"; give {what}.') from error
    except (OSError, ValueError) as error:
        raise SceneError(f'"{path}" cannot be read as text; give {what}.') from error


def entries(data: Mapping[str, Any], key: str, path: Path, what: str) -> list[dict[str, Any]]:
    """The list of objects under a key. Raises SceneError."""
    found = data.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SceneError(f'"{path}" has no list "{key}"; give {what}.')
    return found


def box_of(value: Any, path: Path) -> Box | None:
    """A box of four fractions, clipped to the canvas; None where nothing of it is left. Raises SceneError."""
    numbers = value if isinstance(value, list) else ()
    if len(numbers) != 4 or not all(type(number) in (int, float) for number in numbers):
        raise SceneError(f'"{path}" has the box {value!r}; a box is [x0, y0, x1, y1] in fractions of the canvas.')
    x0, y0, x1, y1 = (float(number) for number in numbers)
    box = clipped((x0, y0, x1, y1))
    return box if box[0] < box[2] and box[1] < box[3] else None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
