"""translations-v2: a source, a reference, and the source with the reference's style or subject.

Item k is determined by its index. Even items are of style: the reference is another image of a style, the truth is the
source in that style. Odd items are of subject: the reference is an image of a held-out glyph, the truth is the source
with that glyph in place of its object. The items of a task form grids of ten sources by ten references: item j has
source j % 10 and reference (j + j // 10) % 10, so that ten consecutive items share nothing and a hundred items fill
one grid.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cloisonne.eval.holes import exemplar
from cloisonne.scene import Box
from cloisonne.world.draw import draw
from cloisonne.world.glyphs import HELD_OUT, words_of
from cloisonne.world.picture import STYLES, Item, Picture, Recipe, sample
from cloisonne.world.words import background_words, caption

FIRST_SEED = 6 << 20
REFERENCES = 1 << 18
SIDE = 10
"""Number of sources, and of references, of a grid."""
Pixels = NDArray[np.uint8]
Task = Literal["style", "subject"]
TASKS: tuple[Task, ...] = ("style", "subject")


@dataclass(frozen=True, kw_only=True, eq=False)
class TranslationItem:
    """One item; images uint8 [128, 128, 3], the reference of any size.

    box: of the source's object. wanted: the style, or the glyph. before, after: captions of the source and the truth
    for a style, phrases of their objects for a subject. where: the background as a phrase.
    """

    index: int
    task: Task
    source: Pixels
    reference: Pixels
    truth: Pixels
    box: Box
    wanted: str
    before: str
    after: str
    where: str


def places(index: int) -> tuple[int, int]:
    """Indices of an item's source and of its reference, within its task."""
    grid, j = divmod(index // len(TASKS), SIDE * SIDE)
    return grid * SIDE + j % SIDE, grid * SIDE + (j + j // SIDE) % SIDE


def translation_item(index: int) -> TranslationItem:
    """Item ``index``."""
    return _of_style(index) if index % 2 == 0 else _of_subject(index)


def _of_style(index: int) -> TranslationItem:
    place, reference = places(index)
    seed = FIRST_SEED + 2 * place
    picture = sample(seed, Recipe(counts=(1, 2, 2, 3), overlapping=0.0))
    style = STYLES[1 + reference % (len(STYLES) - 1)]
    other = sample(FIRST_SEED + REFERENCES + 2 * reference, Recipe(counts=(1, 2, 2, 3)))
    source, styled = draw(picture), replace(picture, style=style)
    before, after = _captions(picture, styled, source.boxes())
    return TranslationItem(
        index=index,
        task="style",
        source=source.rgb,
        reference=draw(replace(other, style=style)).rgb,
        truth=draw(styled).rgb,
        box=source.boxes()[0],
        wanted=style,
        before=before,
        after=after,
        where=background_words(picture.background, _wording(seed, 0)),
    )


def _of_subject(index: int) -> TranslationItem:
    place, reference = places(index)
    seed = FIRST_SEED + 2 * place + 1
    picture = sample(seed, Recipe(counts=(1,)))
    char = _glyph(reference)
    item = replace(picture.items[0], char=char, colour=None)
    source = draw(picture)
    return TranslationItem(
        index=index,
        task="subject",
        source=source.rgb,
        reference=exemplar(char, None, "", np.random.default_rng([FIRST_SEED + REFERENCES + 2 * reference + 1, 20267])),
        truth=draw(replace(picture, items=(item,))).rgb,
        box=source.boxes()[0],
        wanted=char,
        before=_noun(picture.items[0]),
        after=_noun(item),
        where=background_words(picture.background, _wording(seed, 0)),
    )


def _glyph(reference: int) -> str:
    """The glyph of a reference: all held-out glyphs in turn, in a new order each time."""
    turn, place = divmod(reference, len(HELD_OUT))
    return HELD_OUT[int(np.random.default_rng([FIRST_SEED, turn, 20267]).permutation(len(HELD_OUT))[place])]


def _captions(picture: Picture, styled: Picture, boxes: list[Box]) -> tuple[str, str]:
    """Two captions that differ only by the style at the end, so that prompt-to-prompt can align their tokens."""
    for attempt in itertools.count():
        before, after = (
            caption(one, boxes, _wording(picture.seed, attempt), objects=True) for one in (picture, styled)
        )
        if after.startswith(before):
            return before, after
    raise AssertionError("every style is named at the end of the caption")


def _wording(seed: int, attempt: int) -> np.random.Generator:
    return np.random.default_rng([seed, attempt, 20268])


def _noun(item: Item) -> str:
    noun = words_of(item.char)[0]
    words = f"{item.colour} {noun}" if item.colour else noun
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
