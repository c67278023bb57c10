"""edits-v1: pairs of world images that differ by an added, removed or changed object.

Pair k is determined by its index. Its task is k % 4: add, remove, change, or mixed, which is one change and one
addition or removal. The added or removed object is the image's last item, so that the others stay byte-identical; a
changed object stays in place and changes its colour in half of the pairs, its glyph in the other half. No class occurs
twice, and no composition is held out. In the pairs "at-risk" an unchanged object within ``NEAR`` of an edit has its
colour, so that the edit may spread to it.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
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
"""Margin of an edit's box in pixels, for the soft edges of its objects."""
NEAR = 0.1
"""Greatest distance of an object at risk from the edit's box, as a fraction of the image's side."""
_TRIES = 64
_TRIES_AT_RISK = 2048
_FIRST_AT_RISK = FIRST_SEED + (1 << 19)
_APART = 0.02
"""Maximum IoU of two boxes of a pair."""
_RECIPE = Recipe(counts=(2, 2, 3), overlapping=0.0)
_MIXED = Recipe(counts=(3,), overlapping=0.0)
_RECOLOURABLE = {row.char for row in CORE if row.recolourable}


@dataclass(frozen=True, kw_only=True)
class Edited:
    """One edit. box: the area that may change, around the object before and after; whole pixels as fractions.

    before, after: the object, or None; its box is that of the edit.
    """

    name: str
    kind: EditKind
    box: Box
    before: Wanted | None
    after: Wanted | None

    @property
    def edit(self) -> Edit:
        """The edit as a field of a region."""
        if self.before and self.after:
            return Edit(kind="change", before=self.before.phrase, after=self.after.phrase)
        wanted = self.before or self.after
        assert wanted is not None, "an edit has one of both"
        return Edit(kind=self.kind, phrase=wanted.phrase)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """One item. before, after: uint8 [128, 128, 3]. caption: describes only the background, "on a beach".

    unchanged: the objects that are the same in both, by region name. edits: one, or two for a mixed pair.
    """

    index: int
    task: str
    caption: str
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    unchanged: dict[str, Wanted]
    edits: tuple[Edited, ...]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """[128, 128], True where anything may change: the edits' boxes."""
        return covered([edit.box for edit in self.edits])

    def scene(self, background: Image.Image | None, seed: int) -> Scene:
        """The edits and unchanged objects as regions. background: the image before, or None to generate it."""
        regions = [Region(name=name, box=item.box, phrase=item.phrase) for name, item in self.unchanged.items()]
        regions += [Region(name=edit.name, box=edit.box, edit=edit.edit) for edit in self.edits]
        size = {} if background else {"width": SIZE, "height": SIZE}
        return Scene(caption=self.caption, seed=seed, background=background, regions=tuple(regions), **size)


def pair(index: int) -> Pair:
    """Item ``index``: its first candidate whose edits touch no other object and stay inside their boxes."""
    return next(found for found in map(_resolve, itertools.repeat(index), range(_TRIES)) if found is not None)


def pair_at_risk(index: int) -> Pair:
    """Item ``index`` of the pairs at risk."""
    found = (_resolve(index, attempt, risky=True) for attempt in range(_TRIES_AT_RISK))
    return next(item for item in found if item is not None)


PAIRS: Mapping[str, Callable[[int], Pair]] = {"edits-v1": pair, "at-risk": pair_at_risk}
"""Lists of pairs by name."""


def at_risk(item: Pair) -> list[Wanted]:
    """The unchanged objects within ``NEAR`` of an edit that have a colour of it."""
    found = [(edit, wanted) for edit in item.edits for wanted in item.unchanged.values()]
    return [
        wanted
        for edit, wanted in found
        if _distance(edit.box, wanted.box) <= NEAR
        and wanted.colour in {one.colour for one in (edit.before, edit.after) if one and one.colour}
    ]


def _distance(a: Box, b: Box) -> float:
    """The greater of the horizontal and the vertical gap between two boxes; 0 if they overlap."""
    return max(0.0, *(max(a[k], b[k]) - min(a[k + 2], b[k + 2]) for k in (0, 1)))


def covered(boxes: list[Box]) -> NDArray[np.bool_]:
    """[128, 128], True inside any of the boxes."""
    mask = np.zeros((SIZE, SIZE), bool)
    for x0, y0, x1, y1 in (pixels(box) for box in boxes):
        mask[y0:y1, x0:x1] = True
    return mask


def pixels(box: Box) -> tuple[int, int, int, int]:
    """A box of whole pixels (x0, y0, x1, y1) on 128 x 128."""
    x0, y0, x1, y1 = (round(value * SIZE) for value in box)
    return x0, y0, x1, y1


def _resolve(index: int, attempt: int, *, risky: bool = False) -> Pair | None:
    seed = (_FIRST_AT_RISK + index * _TRIES_AT_RISK if risky else FIRST_SEED + index * _TRIES) + attempt
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
    if risky and not _share_colour(before, after, picture.background):
        return None
    drawn = [draw(replace(picture, items=tuple(items))) for items in (before, after)]
    unchanged, edits = _differences(*drawn)
    boxes = [item.box for item in unchanged.values()] + [edit.box for edit in edits]
    chars = [item.char for item in unchanged.values()]
    chars += [char for edit in edits for char in {one.char for one in (edit.before, edit.after) if one}]
    if len(set(chars)) < len(chars) or any(iou(a, b) > _APART for a, b in itertools.combinations(boxes, 2)):
        return None
    found = Pair(
        index=index,
        task=task,
        caption=background_words(picture.background, rng),
        before=drawn[0].rgb,
        after=drawn[1].rgb,
        unchanged=unchanged,
        edits=edits,
    )
    if risky and not at_risk(found):
        return None
    # A few glyphs have faint parts outside their tight box.
    return None if ((found.before != found.after).any(-1) & ~found.mask).any() else found


def _share_colour(before: list[Item], after: list[Item], background: str) -> bool:
    """Give the unchanged objects that can be recoloured the colour of an edited one. False if there are none."""
    colour = next((a.colour for a in (*after, *before) if a.colour and (a in before) != (a in after)), None)
    shared = [item for item in before if item in after and item.char in _RECOLOURABLE]
    if colour is None or not shared or any(is_held_out(item.char, colour, background) for item in shared):
        return False
    for items in (before, after):
        items[:] = [replace(item, colour=colour) if item in shared else item for item in items]
    return True


def _changed(picture: Picture, rng: np.random.Generator, *, colour: bool, but: int | None) -> int | None:
    """The index of the item to change, or None if there is none."""
    places = [k for k, item in enumerate(picture.items) if k != but and (item.colour or not colour)]
    return places[int(rng.integers(len(places)))] if places else None


def _other(item: Item, picture: Picture, rng: np.random.Generator, *, colour: bool) -> Item:
    """The item in another colour, or as another glyph, with the same colour if the glyph is recolourable."""
    if colour:
        choices = [replace(item, colour=other) for other in COLOURS if other != item.colour]
    else:
        glyphs = [row.char for row in CORE if row.char not in {one.char for one in picture.items}]
        choices = [replace(item, char=char, colour=item.colour if char in _RECOLOURABLE else None) for char in glyphs]
    allowed = [one for one in choices if not is_held_out(one.char, one.colour, picture.background)]
    return allowed[int(rng.integers(len(allowed)))]


def _differences(before: Drawn, after: Drawn) -> tuple[dict[str, Wanted], tuple[Edited, ...]]:
    """The unchanged objects and the edits of two images whose items correspond by index, except a last one."""
    unchanged: dict[str, Wanted] = {}
    edits: list[Edited] = []
    ends = itertools.zip_longest(_items(before), _items(after))
    for k, (old, new) in enumerate(ends):
        if old == new:
            unchanged[f"kept-{k}"] = old
            continue
        box = _enclosing([one.box for one in (old, new) if one is not None])
        edits.append(
            Edited(
                name=f"edit-{k}",
                kind="add" if old is None else "remove" if new is None else "change",
                box=box,
                before=old and replace(old, box=box),
                after=new and replace(new, box=box),
            )
        )
    return unchanged, tuple(edits)


def _items(drawn: Drawn) -> Iterator[Wanted]:
    for item, box in zip(drawn.picture.items, drawn.boxes(), strict=True):
        yield Wanted(char=item.char, colour=item.colour, box=box, phrase=_phrase(item))


def _phrase(item: Item) -> str:
    noun = words_of(item.char)[0]
    words = f"{item.colour} {noun}" if item.colour else noun
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _enclosing(boxes: list[Box]) -> Box:
    """The box around all boxes, with margin; whole pixels as fractions."""
    edges = np.array([pixels(box) for box in boxes])
    low = np.maximum(edges[:, :2].min(0) - MARGIN, 0) / SIZE
    high = np.minimum(edges[:, 2:].max(0) + MARGIN, SIZE) / SIZE
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
