"""Parses benchmark rows: "NAME", or "NAME=PRESET,option=value,..."."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from cloisonne.errors import SceneError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OPTION = re.compile(r"([a-z_]+)=([^=]+)")

Preset = tuple[str, dict[str, Any]]
"""A preset and its options."""


def preset_rows(
    rows: Sequence[str], advice: str, check: Callable[[str, dict[str, Any]], object], taken: Collection[str], plain: str
) -> dict[str, Preset]:
    """Preset and options of each row, by name. plain: a preset without options, not checked. taken: names in use.

    Raises SceneError for any other text or a name in use; ``check`` may refuse a preset or an option.
    """
    parsed: dict[str, Preset] = {}
    for text in rows:
        name, given, rest = text.partition("=")
        preset, *parts = (rest if given else name).split(",")
        options = [_OPTION.fullmatch(part) for part in parts]
        if not _NAME.fullmatch(name) or not preset or not all(options) or (preset == plain and parts):
            raise SceneError(f'The row is "{text}"; {advice}.')
        if name in taken or name in parsed:
            raise SceneError(f'The row "{text}" has the name of another row; give it another name.')
        parsed[name] = preset, {found[1]: value_of(found[2]) for found in options if found}
        if preset != plain:
            check(*parsed[name])
    return parsed


def value_of(text: str) -> Any:
    """Parse a number or a boolean; any other text is returned as is."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
