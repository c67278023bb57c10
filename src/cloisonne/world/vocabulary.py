"""All words of the world's captions, by group: the vocabulary of a family that is trained on world images."""

import re
from collections.abc import Sequence
from typing import Any

from cloisonne.scene.shapes.place_words import described_place
from cloisonne.world.glyphs import COLOURS, CORE
from cloisonne.world.words import BACKGROUND_WORDS, JOINS, OPENINGS, SIZES, STYLE_WORDS

_STOP = frozenset(re.split(" ", "a an the in on at of to by under with inside before among against front there is"))
_NINTHS = [(x, y, x + 0.3, y + 0.3) for y in (0.0, 0.35, 0.7) for x in (0.0, 0.35, 0.7)]
_SHAPES = [(0.0, 0.0, 1.0, 0.1), (0.0, 0.0, 0.1, 1.0), (0.0, 0.0, 0.9, 0.9), (0.0, 0.0, 0.3, 0.4)]


def vocabulary(styles: Sequence[str] = ()) -> dict[str, Any]:
    """The contents of ``words.json`` of a family: groups of names with their synonyms, and the grammar words.

    The group "things" has the core glyphs, "styles" those that the family was trained on, each with
    a phrase.
    """
    positions = sorted({word for box in (*_NINTHS, *_SHAPES) for word in described_place(box).split()} - _STOP)
    groups = {
        "things": [list(row.words) for row in CORE],
        "colours": [[colour] for colour in COLOURS],
        "sizes": [[size] for size in SIZES],
        "places": [list(dict.fromkeys(map(_bare, phrases))) for phrases in BACKGROUND_WORDS.values()],
        "positions": [[word] for word in positions],
        **({"styles": [[style, STYLE_WORDS[style][-1]] for style in styles]} if styles else {}),
    }
    of_styles = [text for style in styles for text in STYLE_WORDS[style]]
    phrases = [*of_styles, *(text for texts in BACKGROUND_WORDS.values() for text in texts)]
    singles = {word for group in ("colours", "sizes", "positions") for (word,) in groups[group]}
    grammar = _STOP | singles | {word for text in (*JOINS, *OPENINGS, *phrases) for word in re.findall(r"\w+", text)}
    return {"version": 1, "groups": groups, "grammar": sorted(grammar)}


def _bare(phrase: str) -> str:
    """Drop leading stop words: "in front of a brick wall" becomes "brick wall"."""
    words = phrase.split()
    while len(words) > 1 and words[0] in _STOP:
        words.pop(0)
    return " ".join(words)
