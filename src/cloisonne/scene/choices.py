r"""Choices within a text: ``{red|blue|green}`` is one of its options, taken by the scene's seed. Pure text.

Braces without a ``|`` quote what is in them (``scene/prompt.py``), and ``\{`` is a brace itself. Options may be empty.
"""

import hashlib
import re
from collections.abc import Iterator

from cloisonne.errors import SceneError
from cloisonne.scene.values import shown

_BRACES = re.compile(r"\\.|\{([^}]*)\}", re.DOTALL)
_BAR = re.compile(r"(?<!\\)\|")
_WEIGHED = re.compile(r"\s*[\d.]+\s*::|.*\$\$", re.DOTALL)


def options(text: str) -> Iterator[tuple[str, ...]]:
    """The options of every choice, two or more each."""
    for match in _BRACES.finditer(text):
        if len(found := _options(match)) > 1:
            yield found


def check_choices(text: str) -> None:
    """SceneError for weights and counts of options, which other programs have."""
    for option in (option for found in options(text) for option in found):
        if _WEIGHED.match(option):
            raise SceneError(
                f"The text {shown(text)} has a choice with weights or counts, {shown(option)}, which are not done; "
                "write {red|blue}, and an option more than once for it to be taken more often."
            )


def chosen(text: str, seed: int, place: str) -> str:
    """The text with one option of every choice, which seed, place (what the text is of) and the choice's number say."""
    count = 0

    def one(match: re.Match[str]) -> str:
        nonlocal count
        found = _options(match)
        if len(found) < 2:
            return match[0]
        count += 1
        digest = hashlib.sha256(f"{seed}\n{place}\n{count}".encode()).digest()
        return found[int.from_bytes(digest[:8]) % len(found)]

    return _BRACES.sub(one, text)


def _options(match: re.Match[str]) -> tuple[str, ...]:
    return () if match[1] is None else tuple(_BAR.split(match[1]))
