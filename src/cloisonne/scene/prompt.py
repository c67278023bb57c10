r"""Weights and schedules of words, as AUTOMATIC1111, ComfyUI and InvokeAI write them; pure text, no tensors.

``(word)`` counts 1.1, ``(word:1.2)`` 1.2 and ``[word]`` 1 / 1.1, multiplied where they are nested. ``[from:to:when]``
says other words from ``when`` on: a fraction of the walk, or above 1 a number of steps; ``[to:when]`` and
``[from::when]`` leave one side out. ``\( \) \[ \] \{ \} \: \| \\`` are characters of their own, and nothing between
``{`` and ``}`` is syntax but a ``|``, which makes it a choice (``scene/choices.py``). A text
without ``( ) [ ] { } \`` says itself.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple, NoReturn

from pydantic import AfterValidator

from cloisonne.errors import SceneError
from cloisonne.scene.choices import check_choices, options
from cloisonne.scene.values import Text, shown

MORE = 1.1
"""The weight of a pair of parentheses without a number, and one over that of a pair of square brackets."""
MAX_WEIGHT = 100.0
MAX_DEPTH = 50

_SYNTAX = re.compile(r"[()\[\]{}\\]")
_PLAIN = re.compile(r"[^()\[\]{}\\:|]+")
_ESCAPED = "()[]{}\\:|"
_CLOSING = {"(": ")", "[": "]"}
_NUMBER = re.compile(r"\s*((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*", re.ASCII)


class Piece(NamedTuple):
    """Words, and how much they count: a weight in [0, 100]."""

    words: str
    weight: float = 1.0


class _Leaf(NamedTuple):
    """Words that are said from all of ``since`` on and before all of ``until``, in the units that were written."""

    words: str
    weight: float = 1.0
    since: tuple[float, ...] = ()
    until: tuple[float, ...] = ()


class _Part(NamedTuple):
    """What stands between two colons of a bracket, and how it is written."""

    leaves: list[_Leaf]
    source: str


def pieces(text: str, progress: float = 0.0, num_steps: int = 1) -> list[Piece]:
    """What a text says where ``progress`` in [0, 1) of a walk of ``num_steps`` lies behind.

    Neighbours have different weights, none is empty. Raises SceneError where the text cannot be read.
    """
    said: list[Piece] = []
    for leaf in _read(text):
        begun = all(_fraction(when, num_steps) <= progress for when in leaf.since)
        if not leaf.words or not begun or any(_fraction(when, num_steps) <= progress for when in leaf.until):
            continue
        if said and said[-1].weight == leaf.weight:
            said[-1] = Piece(said[-1].words + leaf.words, leaf.weight)
        else:
            said.append(Piece(leaf.words, leaf.weight))
    return said


def at(text: str, progress: float, num_steps: int) -> str:
    """The text as it is said there (see :func:`pieces`), with its weights and without schedules; "" if it is mute."""
    if not _SYNTAX.search(text):
        return text
    said = pieces(text, progress, num_steps)
    return written(said) if any(piece.words.strip() for piece in said) else ""


def switches(text: str, num_steps: int) -> set[float]:
    """The fractions of a walk of ``num_steps`` at which the text says other words, in [0, 1]."""
    return {_fraction(when, num_steps) for leaf in _read(text) for when in (*leaf.since, *leaf.until)}


def plain(text: str) -> str:
    """The words alone that a text begins with, without weights."""
    return "".join(piece.words for piece in pieces(text))


def is_mute(text: str) -> bool:
    """Whether the text never says anything."""
    return not any(leaf.words.strip() for leaf in _read(text))


def written(said: Iterable[Piece]) -> str:
    """The text that says these pieces."""
    return "".join(escaped(words) if weight == 1 else f"({escaped(words)}:{weight!r})" for words, weight in said)


def escaped(words: str) -> str:
    """The text that says these words, whatever characters they hold."""
    return _SYNTAX.sub(r"\\\g<0>", words)


def _readable(text: str) -> str:
    _read(text)
    check_choices(text)
    for option in (option for found in options(text) for option in found):
        _read(option)
    return text


Prompt = Annotated[Text, AfterValidator(_readable)]
"""Text with weights and schedules."""


def _fraction(when: float, num_steps: int) -> float:
    return when if when <= 1 else min(when / num_steps, 1.0)


def _read(text: str) -> list[_Leaf]:
    return _Reader(text).whole() if _SYNTAX.search(text) else [_Leaf(text)]


class _Reader:
    """Reads one text from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def whole(self) -> list[_Leaf]:
        """All of it."""
        (part,) = self._parts("")
        if heaviest := max((leaf.weight for leaf in part.leaves if leaf.weight > MAX_WEIGHT), default=None):
            self._refuse(f"has weights that multiply to {heaviest:g}", f"keep them at most {MAX_WEIGHT:g} together")
        return part.leaves

    def _parts(self, opened: str) -> list[_Part]:
        """What stands up to the bracket that closes ``opened``, divided by its colons; up to the end where it is ""."""
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
                self._refuse("alternates words by |, which is not done", r"write [from:to:0.5], or \| for a bar itself")
            elif character in _CLOSING:
                leaves += self._bracket(character)
            else:
                leaves.append(_Leaf(self._literal(character)))
        if opened:
            self._refuse_bracket(opened, begun - 1, "is never closed")
        return [_Part(leaves, self._text)]

    def _literal(self, character: str) -> str:
        """Words from here on that are what they are."""
        begun = self._at
        if character == "{":
            end = self._text.find("}", begun)
            if end < 0:
                self._refuse_bracket(character, begun, "is never closed")
            self._at = end + 1
            return self._text[begun + 1 : end]
        if character in ")]}":
            self._refuse_bracket(character, begun, "closes nothing")
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
            self._refuse(f"has more than {MAX_DEPTH} brackets inside each other", "leave some out")
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
            self._refuse(
                f"has the weight {shown(parts[-1].source)}",
                rf"write a number from 0 to {MAX_WEIGHT:g}, as in (word:1.2), or \: for a colon itself",
            )
        first, *others = (part.leaves for part in parts[:-1])
        return _times([*first, *(leaf for leaves in others for leaf in (_Leaf(":"), *leaves))], weight)

    def _scheduled(self, parts: Sequence[_Part]) -> list[_Leaf]:
        when = _number(parts[-1].source)
        if len(parts) > 3 or when is None or (when > 1 and when % 1):
            self._refuse(
                f"has the schedule {shown('[' + ':'.join(part.source for part in parts) + ']')}",
                "write [from:to:when], where when is a fraction of the walk from 0 to 1 or a whole number of steps "
                r"above 1, or \: for a colon itself",
            )
        before = parts[0].leaves if len(parts) == 3 else []
        after = parts[-2].leaves
        return [
            *(leaf._replace(until=(*leaf.until, when)) for leaf in before),
            *(leaf._replace(since=(*leaf.since, when)) for leaf in after),
        ]

    def _refuse_bracket(self, bracket: str, place: int, wrong: str) -> NoReturn:
        if bracket in "{}":
            advice = rf"put what is no syntax between {{ and }}, or write \{bracket} for a brace itself"
        else:
            syntax = "(word:1.2) for a weight" if bracket in "()" else "[from:to:0.5] for a schedule"
            advice = rf"write {syntax}, or \{bracket} for a bracket itself"
        self._refuse(f"has a {bracket} at character {place + 1} that {wrong}", advice)

    def _refuse(self, wrong: str, advice: str) -> NoReturn:
        raise SceneError(f"The text {shown(self._text)} {wrong}; {advice}.")


def _times(leaves: Iterable[_Leaf], weight: float) -> list[_Leaf]:
    return [leaf._replace(weight=leaf.weight * weight) for leaf in leaves]


def _number(source: str) -> float | None:
    match = _NUMBER.fullmatch(source)
    return float(match[1]) if match else None
