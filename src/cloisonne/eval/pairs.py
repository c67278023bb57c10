"""edits-v1: pairs of world pictures of which one is the other with something added, removed or changed.

Everything about pair k follows from its number. Its task is k % 4: add, remove, change, or mixed, which is one change
and one addition or removal. What comes or goes is the picture's last item, so that the others stay the same to the
byte; what changes does so at its place, in half of the pairs to another colour and in half to another glyph. No class
is seen twice, and no composition is one that training never draws.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloisonne.eval.layouts import Wanted
from cloisonne.scene import Box, Region, Scene
from cloisonne.scene.conditions.edit import Edit, EditKind
from cloisonne.scene.shapes.geometry import iou
from cloisonne.world.draw import Drawn, draw
from cloisonne.world.glyphs import COLOURS, CORE, words_of
from cloisonne.world.picture import Item, Picture, Recipe, is_held_out, sample
from cloisonne.world.words import background_words

FIRST_SEED = 5 << 20
"""Far above the seeds of the layouts' lists and of the holes, far below those of any training."""
TASKS = ("add", "remove", "change", "mixed")
SIZE = 128
MARGIN = 2
"""Pixels around what changes that belong to the edit: the soft edges."""
_TRIES = 64
_APART = 0.02
"""IoU that two boxes of a pair have at most."""
_RECIPE = Recipe(counts=(2, 2, 3), overlapping=0.0)
_MIXED = Recipe(counts=(3,), overlapping=0.0)
_RECOLOURABLE = {row.char for row in CORE if row.recolourable}


@dataclass(frozen=True, kw_only=True)
class Edited:
    """One edit. box: what may change, around the object before and after, whole pixels as fractions.

    before, after: what is there, None where nothing is; their box is the edit's.
    """

    name: str
    kind: EditKind
    box: Box
    before: Wanted | None
    after: Wanted | None

    @property
    def edit(self) -> Edit:
        """In the form of a scene's region."""
        if self.before and self.after:
            return Edit(kind="change", before=self.before.phrase, after=self.after.phrase)
        told = self.before or self.after
        assert told is not None, "an edit has one of both"
        return Edit(kind=self.kind, phrase=told.phrase)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """One item. before, after: uint8 [128, 128, 3]. caption: the background's words only, "on a beach".

    kept: objects that are the same in both, by the names of their regions. edits: one, or two of a mixed pair.
    """

    index: int
    task: str
    caption: str
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    kept: dict[str, Wanted]
    edits: tuple[Edited, ...]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[128, 128], True where anything may change: the edits' boxes."""
        return covered([edit.box for edit in self.edits])

    def scene(self, background: Image.Image | None, seed: int) -> Scene:
        """The edits and what is kept as regions; background: the picture before, or None to have it drawn."""
        regions = [Region(name=name, box=item.box, phrase=item.phrase) for name, item in self.kept.items()]
        regions += [Region(name=edit.name, box=edit.box, edit=edit.edit) for edit in self.edits]
        size = {} if background else {"width": SIZE, "height": SIZE}
        return Scene(caption=self.caption, seed=seed, background=background, regions=tuple(regions), **size)


def pair(index: int) -> Pair:
    """Item ``index``: the first of its candidates whose edits touch no other object and stay in their boxes."""
    return next(found for found in map(_resolve, itertools.repeat(index), range(_TRIES)) if found is not None)


def covered(boxes: list[Box]) -> NDArray[np.bool_]:
    """[128, 128], True in any of the boxes."""
    mask = np.zeros((SIZE, SIZE), bool)
    for x0, y0, x1, y1 in (pixels(box) for box in boxes):
        mask[y0:y1, x0:x1] = True
    return mask


def pixels(box: Box) -> tuple[int, int, int, int]:
    """A box of whole pixels (x0, y0, x1, y1) on 128 x 128."""
    x0, y0, x1, y1 = (round(value * SIZE) for value in box)
    return x0, y0, x1, y1


def _resolve(index: int, attempt: int) -> Pair | None:
    seed = FIRST_SEED + index * _TRIES + attempt
    rng = np.random.default_rng([seed, 20267])
    task = TASKS[index % len(TASKS)]
    picture = sample(seed, _MIXED if task == "mixed" else _RECIPE)
    round_ = index // len(TASKS)
    last = len(picture.items) - 1
    before, after = list(picture.items), list(picture.items)
    if task in ("change", "mixed"):
        place = _changed(picture, rng, colour=round_ % 2 == 0, but=last if task == "mixed" else None)
        if place is None:
            return None
        after[place] = _other(before[place], picture, rng, colour=round_ % 2 == 0)
    comes = {"add": True, "remove": False, "change": None, "mixed": round_ // 2 % 2 == 0}[task]
    if comes is not None:
        (before if comes else after).pop()
    drawn = [draw(replace(picture, items=tuple(items))) for items in (before, after)]
    kept, edits = _told(*drawn)
    boxes = [item.box for item in kept.values()] + [edit.box for edit in edits]
    chars = [item.char for item in kept.values()]
    chars += [char for edit in edits for char in {told.char for told in (edit.before, edit.after) if told}]
    if len(set(chars)) < len(chars) or any(iou(a, b) > _APART for a, b in itertools.combinations(boxes, 2)):
        return None
    found = Pair(
        index=index,
        task=task,
        caption=background_words(picture.background, rng),
        before=drawn[0].rgb,
        after=drawn[1].rgb,
        kept=kept,
        edits=edits,
    )
    # Fine parts of a few glyphs, too faint for a tight box, reach out of it.
    return None if ((found.before != found.after).any(-1) & ~found.mask).any() else found


def _changed(picture: Picture, rng: np.random.Generator, *, colour: bool, but: int | None) -> int | None:
    """The place of the item that changes; None where no item could."""
    places = [k for k, item in enumerate(picture.items) if k != but and (item.colour or not colour)]
    return places[int(rng.integers(len(places)))] if places else None


def _other(item: Item, picture: Picture, rng: np.random.Generator, *, colour: bool) -> Item:
    """The item in another colour, or as another glyph, which keeps the colour where it comes in colours."""
    if colour:
        choices = [replace(item, colour=other) for other in COLOURS if other != item.colour]
    else:
        glyphs = [row.char for row in CORE if row.char not in {one.char for one in picture.items}]
        choices = [replace(item, char=char, colour=item.colour if char in _RECOLOURABLE else None) for char in glyphs]
    allowed = [one for one in choices if not is_held_out(one.char, one.colour, picture.background)]
    return allowed[int(rng.integers(len(allowed)))]


def _told(before: Drawn, after: Drawn) -> tuple[dict[str, Wanted], tuple[Edited, ...]]:
    """What stays, and what does not, of two pictures whose items are the same by their places, but for a last one."""
    kept: dict[str, Wanted] = {}
    edits: list[Edited] = []
    ends = itertools.zip_longest(_items(before), _items(after))
    for k, (old, new) in enumerate(ends):
        if old == new:
            kept[f"kept-{k}"] = old
            continue
        box = _around([one.box for one in (old, new) if one is not None])
        edits.append(
            Edited(
                name=f"edit-{k}",
                kind="add" if old is None else "remove" if new is None else "change",
                box=box,
                before=old and replace(old, box=box),
                after=new and replace(new, box=box),
            )
        )
    return kept, tuple(edits)


def _items(drawn: Drawn) -> Iterator[Wanted]:
    for item, box in zip(drawn.picture.items, drawn.boxes(), strict=True):
        yield Wanted(char=item.char, colour=item.colour, box=box, phrase=_phrase(item))


def _phrase(item: Item) -> str:
    noun = words_of(item.char)[0]
    words = f"{item.colour} {noun}" if item.colour else noun
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _around(boxes: list[Box]) -> Box:
    """All of the boxes and their margins, whole pixels as fractions."""
    edges = np.array([pixels(box) for box in boxes])
    low = np.maximum(edges[:, :2].min(0) - MARGIN, 0) / SIZE
    high = np.minimum(edges[:, 2:].max(0) + MARGIN, SIZE) / SIZE
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
