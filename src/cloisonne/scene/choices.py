r"""Choices within a prompt: the scene's seed picks one option of ``{red|blue|green}``. Pure text.

Braces without a ``|`` quote their content (``scene/prompt.py``), and ``\{`` is a literal brace. Options may be empty.
"""

import hashlib
import re
from collections.abc import Iterator

from cloisonne.errors import SceneError
from cloisonne.scene.values import brief

_BRACES = re.compile(r"\\.|\{([^}]*)\}", re.DOTALL)
_BAR = re.compile(r"(?<!\\)\|")
_WEIGHTED = re.compile(r"\s*[\d.]+\s*::|.*\$\$", re.DOTALL)


def options(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the options of each choice in a text; a choice has two or more."""
    for match in _BRACES.finditer(text):
        if len(found := _options(match)) > 1:
            yield found


def check_choices(text: str) -> None:
    """Raise SceneError for options with weights or counts, which other tools support."""
    for option in (option for found in options(text) for option in found):
        if _WEIGHTED.match(option):
            raise SceneError(
                f"The text {brief(text)} has an option with a weight or a count, {brief(option)}, which is not "
                "supported; write {red|blue}, and repeat an option to pick it more often."
            )


def chosen(text: str, seed: int, place: str) -> str:
    """Return the text with each choice replaced by one of its options.

    The pick depends on the seed, on ``place`` (which text of the scene this is) and on the choice's position in it.
    """
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
