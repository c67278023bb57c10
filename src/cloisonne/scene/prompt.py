r"""Prompt weights and schedules, in the syntax of AUTOMATIC1111, ComfyUI and InvokeAI. Pure text, no tensors.

``(word)`` has weight 1.1, ``(word:1.2)`` 1.2 and ``[word]`` 1 / 1.1; nested weights multiply. ``[from:to:when]``
switches from one text to another at ``when``: a fraction of the steps, or above 1 a number of steps. ``[to:when]`` and
``[from::when]`` leave one side empty. ``\( \) \[ \] \{ \} \: \| \\`` are literal characters. Text between ``{`` and
``}`` is literal, unless it contains ``|``: then it is a choice (``scene/choices.py``). A text without ``( ) [ ] { } \``
has no syntax.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple, NoReturn

from pydantic import AfterValidator

from cloisonne.errors import SceneError
from cloisonne.scene.choices import check_choices, options
from cloisonne.scene.values import Text, brief

MORE = 1.1
"""Weight of parentheses without a number; square brackets have its inverse."""
MAX_WEIGHT = 100.0
MAX_DEPTH = 50

_SYNTAX = re.compile(r"[()\[\]{}\\]")
_PLAIN = re.compile(r"[^()\[\]{}\\:|]+")
_ESCAPED = "()[]{}\\:|"
_CLOSING = {"(": ")", "[": "]"}
_NUMBER = re.compile(r"\s*((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*", re.ASCII)


class Piece(NamedTuple):
    """A part of a text, with its weight in [0, 100]."""

    words: str
    weight: float = 1.0


class _Leaf(NamedTuple):
    """Words that are in effect after all of ``since`` and before all of ``until``, in the units of the text."""

    words: str
    weight: float = 1.0
    since: tuple[float, ...] = ()
    until: tuple[float, ...] = ()


class _Part(NamedTuple):
    """The text between two colons in a bracket: parsed, and as written."""

    leaves: list[_Leaf]
    source: str


def pieces(text: str, progress: float = 0.0, num_steps: int = 1) -> list[Piece]:
    """Parse a text into weighted pieces, as they are at one point of sampling.

    Args:
        progress: fraction of the steps that are done, in [0, 1).
        num_steps: number of sampling steps.

    Returns:
        Non-empty pieces. Neighbours have different weights.

    Raises:
        SceneError: the syntax is invalid.
    """
    found: list[Piece] = []
    for leaf in _parse(text):
        begun = all(_fraction(when, num_steps) <= progress for when in leaf.since)
        if not leaf.words or not begun or any(_fraction(when, num_steps) <= progress for when in leaf.until):
            continue
        if found and found[-1].weight == leaf.weight:
            found[-1] = Piece(found[-1].words + leaf.words, leaf.weight)
        else:
            found.append(Piece(leaf.words, leaf.weight))
    return found


def at(text: str, progress: float, num_steps: int) -> str:
    """The text at ``progress`` (see :func:`pieces`), with weights and without schedules; "" if it has no words."""
    if not _SYNTAX.search(text):
        return text
    found = pieces(text, progress, num_steps)
    return written(found) if any(piece.words.strip() for piece in found) else ""


def switches(text: str, num_steps: int) -> set[float]:
    """The fractions of the steps, in [0, 1], at which a schedule changes the text."""
    return {_fraction(when, num_steps) for leaf in _parse(text) for when in (*leaf.since, *leaf.until)}


def plain(text: str) -> str:
    """The words of a text at the first step, without weights."""
    return "".join(piece.words for piece in pieces(text))


def is_empty(text: str) -> bool:
    """Whether a text has no words at any step."""
    return not any(leaf.words.strip() for leaf in _parse(text))


def written(parts: Iterable[Piece]) -> str:
    """Format weighted pieces as a text: the inverse of :func:`pieces`."""
    return "".join(escaped(words) if weight == 1 else f"({escaped(words)}:{weight!r})" for words, weight in parts)


def escaped(words: str) -> str:
    """Escape words, so that none of their characters is syntax."""
    return _SYNTAX.sub(r"\\\g<0>", words)


def _readable(text: str) -> str:
    _parse(text)
    check_choices(text)
    for option in (option for found in options(text) for option in found):
        _parse(option)
    return text


Prompt = Annotated[Text, AfterValidator(_readable)]
"""Text with weights and schedules."""


def _fraction(when: float, num_steps: int) -> float:
    return when if when <= 1 else min(when / num_steps, 1.0)


def _parse(text: str) -> list[_Leaf]:
    return _Parser(text).whole() if _SYNTAX.search(text) else [_Leaf(text)]


class _Parser:
    """Recursive-descent parser of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> list[_Leaf]:
        """Parse the whole text."""
        (part,) = self._parts("")
        if heaviest := max((leaf.weight for leaf in part.leaves if leaf.weight > MAX_WEIGHT), default=None):
            self._fail(f"has nested weights with the product {heaviest:g}", f"keep the product at most {MAX_WEIGHT:g}")
        return part.leaves

    def _parts(self, opened: str) -> list[_Part]:
        """The parts between colons, up to the bracket that closes ``opened``, or to the end if that is ""."""
        begun, start = self._at, self._at
        done: list[_Part] = []
        leaves: list[_Leaf] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            if opened and character in (":", _CLOSING[opened]):
                done.append(_Part(leaves, self._text[start : self._at]))
                self._at += 1
                if character != ":":
                    return done
                leaves, start = [], self._at
            elif opened == "[" and character == "|":
                self._fail(
                    "alternates words with |, which is not supported", r"write [from:to:0.5], or \| for a literal |"
                )
            elif character in _CLOSING:
                leaves += self._bracket(character)
            else:
                leaves.append(_Leaf(self._literal(character)))
        if opened:
            self._fail_at_bracket(opened, begun - 1, "that is never closed")
        return [_Part(leaves, self._text)]

    def _literal(self, character: str) -> str:
        """The literal text from here on."""
        begun = self._at
        if character == "{":
            end = self._text.find("}", begun)
            if end < 0:
                self._fail_at_bracket(character, begun, "that is never closed")
            self._at = end + 1
            return self._text[begun + 1 : end]
        if character in ")]}":
            self._fail_at_bracket(character, begun, "without an opening bracket")
        if character == "\\" and self._text[begun + 1 : begun + 2] in tuple(_ESCAPED):
            self._at += 2
            return self._text[begun + 1]
        match = _PLAIN.match(self._text, begun)
        self._at = match.end() if match else begun + 1
        return self._text[begun : self._at]

    def _bracket(self, opened: str) -> list[_Leaf]:
        self._at += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"has brackets nested more than {MAX_DEPTH} deep", "remove some")
        parts = self._parts(opened)
        self._depth -= 1
        if opened == "(":
            return self._weighted(parts)
        return _times(parts[0].leaves, 1 / MORE) if len(parts) == 1 else self._scheduled(parts)

    def _weighted(self, parts: Sequence[_Part]) -> list[_Leaf]:
        if len(parts) == 1:
            return _times(parts[0].leaves, MORE)
        weight = _number(parts[-1].source)
        if weight is None or weight > MAX_WEIGHT:
            self._fail(
                f"has the weight {brief(parts[-1].source)}",
                rf"write a number from 0 to {MAX_WEIGHT:g}, as in (word:1.2), or \: for a literal colon",
            )
        first, *others = (part.leaves for part in parts[:-1])
        return _times([*first, *(leaf for leaves in others for leaf in (_Leaf(":"), *leaves))], weight)

    def _scheduled(self, parts: Sequence[_Part]) -> list[_Leaf]:
        when = _number(parts[-1].source)
        if len(parts) > 3 or when is None or (when > 1 and when % 1):
            self._fail(
                f"has the schedule {brief('[' + ':'.join(part.source for part in parts) + ']')}",
                "write [from:to:when], where when is a fraction of the steps from 0 to 1 or a whole number of steps "
                r"above 1, or \: for a literal colon",
            )
        before = parts[0].leaves if len(parts) == 3 else []
        after = parts[-2].leaves
        return [
            *(leaf._replace(until=(*leaf.until, when)) for leaf in before),
            *(leaf._replace(since=(*leaf.since, when)) for leaf in after),
        ]

    def _fail_at_bracket(self, bracket: str, place: int, wrong: str) -> NoReturn:
        if bracket in "{}":
            advice = rf"put literal text between {{ and }}, or write \{bracket} for a literal brace"
        else:
            syntax = "(word:1.2) for a weight" if bracket in "()" else "[from:to:0.5] for a schedule"
            advice = rf"write {syntax}, or \{bracket} for a literal bracket"
        self._fail(f"has a {bracket} at character {place + 1} {wrong}", advice)

    def _fail(self, wrong: str, advice: str) -> NoReturn:
        raise SceneError(f"The text {brief(self._text)} {wrong}; {advice}.")


def _times(leaves: Iterable[_Leaf], weight: float) -> list[_Leaf]:
    return [leaf._replace(weight=leaf.weight * weight) for leaf in leaves]


def _number(source: str) -> float | None:
    match = _NUMBER.fullmatch(source)
    return float(match[1]) if match else None
