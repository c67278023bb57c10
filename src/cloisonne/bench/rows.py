"""Rows of benchmarks as they are asked for: "NAME", or "NAME=PRESET,option=value,..."."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from cloisonne.errors import SceneError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OPTION = re.compile(r"([a-z_]+)=([^=]+)")

Asked = tuple[str, dict[str, Any]]
"""A preset and its options."""


def rows_asked(
    rows: Sequence[str], advice: str, check: Callable[[str, dict[str, Any]], object], taken: Collection[str], plain: str
) -> dict[str, Asked]:
    """Preset and options by name. plain: a preset that takes no options and is not checked; taken: names in use.

    SceneError where a row is none of these or its name is taken; check may refuse a preset or an option.
    """
    asked: dict[str, Asked] = {}
    for text in rows:
        name, given, rest = text.partition("=")
        preset, *parts = (rest if given else name).split(",")
        options = [_OPTION.fullmatch(part) for part in parts]
        if not _NAME.fullmatch(name) or not preset or not all(options) or (preset == plain and parts):
            raise SceneError(f'The row is "{text}"; {advice}.')
        if name in taken or name in asked:
            raise SceneError(f'The row "{text}" has the name of another row; give it another name.')
        asked[name] = preset, {found[1]: value_of(found[2]) for found in options if found}
        if preset != plain:
            check(*asked[name])
    return asked


def value_of(text: str) -> Any:
    """A number, true, false, or the text itself."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
