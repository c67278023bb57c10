"""translations-v2: a source, a reference, and what the source would be with the reference's style or subject.

Everything about item k follows from its number. Even ones are of style: the reference is another picture of a style,
the truth the source in that style. Odd ones are of subject: the reference shows a held-out glyph, the truth the source
with it in the place of its object. The items of a task are grids of ten sources by ten references: item j has source
j % 10 and reference (j + j // 10) % 10, so that ten in a row share nothing and a hundred are the grid; then comes the
next one.
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
"""Sources of a grid, and its references."""
Pixels = NDArray[np.uint8]
Task = Literal["style", "subject"]
TASKS: tuple[Task, ...] = ("style", "subject")


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """One item; pictures uint8 [128, 128, 3], the reference any size.

    box: of the source's object. wanted: the style, or the glyph. before, after: in words, what the source and the truth
    show: of style all of it, of subject the object. where: the background, in words.
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
    """Numbers of an item's source and of its reference, each among those of its task."""
    grid, j = divmod(index // len(TASKS), SIDE * SIDE)
    return grid * SIDE + j % SIDE, grid * SIDE + (j + j // SIDE) % SIDE


def asked(index: int) -> Asked:
    """Item ``index``."""
    return _of_style(index) if index % 2 == 0 else _of_subject(index)


def _of_style(index: int) -> Asked:
    place, shown = places(index)
    seed = FIRST_SEED + 2 * place
    picture = sample(seed, Recipe(counts=(1, 2, 2, 3), overlapping=0.0))
    style = STYLES[1 + shown % (len(STYLES) - 1)]
    other = sample(FIRST_SEED + REFERENCES + 2 * shown, Recipe(counts=(1, 2, 2, 3)))
    source, styled = draw(picture), replace(picture, style=style)
    before, after = _captions(picture, styled, source.boxes())
    return Asked(
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


def _of_subject(index: int) -> Asked:
    place, shown = places(index)
    seed = FIRST_SEED + 2 * place + 1
    picture = sample(seed, Recipe(counts=(1,)))
    char = _glyph(shown)
    item = replace(picture.items[0], char=char, colour=None)
    source = draw(picture)
    return Asked(
        index=index,
        task="subject",
        source=source.rgb,
        reference=exemplar(char, None, "", np.random.default_rng([FIRST_SEED + REFERENCES + 2 * shown + 1, 20267])),
        truth=draw(replace(picture, items=(item,))).rgb,
        box=source.boxes()[0],
        wanted=char,
        before=_noun(picture.items[0]),
        after=_noun(item),
        where=background_words(picture.background, _wording(seed, 0)),
    )


def _glyph(shown: int) -> str:
    """Of a reference: all held-out glyphs in turn, each round in another order."""
    turn, place = divmod(shown, len(HELD_OUT))
    return HELD_OUT[int(np.random.default_rng([FIRST_SEED, turn, 20267]).permutation(len(HELD_OUT))[place])]


def _captions(picture: Picture, styled: Picture, boxes: list[Box]) -> tuple[str, str]:
    """The same words twice, the style behind them: prompt-to-prompt finds what both say at the same places."""
    for attempt in itertools.count():
        before, after = (
            caption(one, boxes, _wording(picture.seed, attempt), objects=True) for one in (picture, styled)
        )
        if after.startswith(before):
            return before, after
    raise AssertionError("every style has words that stand behind")


def _wording(seed: int, attempt: int) -> np.random.Generator:
    return np.random.default_rng([seed, attempt, 20268])


def _noun(item: Item) -> str:
    noun = words_of(item.char)[0]
    words = f"{item.colour} {noun}" if item.colour else noun
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
