"""layouts-v1: the fixed list of world scenes that layout-to-image is measured on.

The list lies resolved beside this file, so it is the same wherever it is read, font or not; ``scan`` is where it came
from. Every fifth scene shows held-out compositions only (object × colour or object × background pairs that training
never draws), and within each kind a quarter of the scenes, apart from the rest, has objects made to overlap. Kinds
alternate, so that any prefix (``--limit``) is a fair sample.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import combinations

from cloisonne.errors import CheckpointError
from cloisonne.scene import Box, Region, Scene
from cloisonne.scene.shapes.geometry import iou
from cloisonne.world.draw import Drawn, draw
from cloisonne.world.export import scene_of
from cloisonne.world.picture import MAX_AREA, MAX_IOU, MIN_AREA, MIN_SIDE, MIN_VISIBLE, Recipe, sample

SHA256 = "f33d0e927304af364d2a4c9caf08551ad60d3ce8842d00fd661af35878fe7980"
"""Of ``dump(layouts())``: tables made with the same hash are about the same scenes."""
COUNT = 1000
CANVAS = 128
"""Side in pixels at which the scenes were drawn; the boxes are whole pixels of it."""
FIRST_SEED = 1 << 20
"""Where the scan for the list began: far above the seeds of examples and tests, far below those of any training."""
REFERENCE_SEED = 1 << 21
"""Where the scan for real pictures of other scenes begins: the other side of a Fréchet distance."""

_MAX_ASPECT = 2.0
_APART, _OVERLAPPING = 0.02, 0.05  # IoU of two boxes: at most, at least; scenes with a pair in between are passed over


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What one region asks for: a glyph, the colour that the phrase names (None = it names none), where, in words."""

    char: str
    colour: str | None
    box: Box
    """Tight box of the drawn truth, hidden parts included: fractions (x0, y0, x1, y1)."""
    phrase: str


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One scene of the list."""

    index: int
    seed: int
    caption: str
    """The background's words only: "on a beach"."""
    regions: tuple[Wanted, ...]

    @property
    def held_out(self) -> bool:
        """Whether every object is a composition that training never draws."""
        return _held_out(self.index)

    @property
    def sentence(self) -> str:
        """A caption that names the objects, in the regions' own words and without places: "a cat and a dog on a beach".

        It is what the row ``caption`` is told in place of regions; without it that row could not know the objects.
        """
        phrases = [region.phrase for region in self.regions]
        things = phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
        return f"{things} {self.caption}"

    def overlapped(self, k: int) -> bool:
        """Whether region k and another one overlap on purpose (IoU of at least 0.05)."""
        return any(iou(self.regions[k].box, r.box) >= _OVERLAPPING for j, r in enumerate(self.regions) if j != k)

    def scene(self) -> Scene:
        """The scene with its regions, ``region-0``, ``region-1``, ... from back to front."""
        regions = tuple(Region(box=region.box, phrase=region.phrase) for region in self.regions)
        return Scene(width=CANVAS, height=CANVAS, caption=self.caption, regions=regions)

    def captioned(self) -> Scene:
        """The scene that has no regions and says everything in its caption."""
        return Scene(width=CANVAS, height=CANVAS, caption=self.sentence)

    def truth(self) -> Drawn:
        """The true picture, [128, 128]; drawing it needs the font or its atlas."""
        return draw(sample(self.seed, _recipe(self.index)), CANVAS, CANVAS)


@functools.cache
def layouts() -> tuple[Layout, ...]:
    """The whole list; CheckpointError when the file beside this one is not the one that the hash names."""
    text = resources.files("cloisonne.eval").joinpath("layouts-v1.jsonl").read_text("utf-8")
    if hashlib.sha256(text.encode()).hexdigest() != SHA256:
        raise CheckpointError("layouts-v1.jsonl is not the published list (its SHA-256 differs): reinstall cloisonne.")
    return tuple(_parse(index, line) for index, line in enumerate(text.splitlines()))


def dump(items: Iterable[Layout]) -> str:
    """The list as text, one JSON line a layout; boxes in pixels of the canvas. The file is ``dump(scan())``."""
    return "".join(
        json.dumps(
            {
                "seed": layout.seed,
                "caption": layout.caption,
                "regions": [[r.char, r.colour, [round(v * CANVAS) for v in r.box], r.phrase] for r in layout.regions],
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        + "\n"
        for layout in items
    )


def scan(count: int = COUNT, first_seed: int = FIRST_SEED) -> Iterator[Layout]:
    """The list from its seeds: each place takes the next seed whose picture keeps the rules of that place.

    The rules: tight boxes of area 0.04 to 0.36, shorter side at least 0.2, aspect 0.5 to 2; every object at least 60 %
    visible and unlike the others (a class seen twice would leave open which region it answers); boxes apart
    (IoU ≤ 0.02), but at the places of overlap at least one pair with IoU 0.05 to 0.3.
    """
    seed = first_seed
    for index in range(count):
        while (layout := _resolve(index, seed)) is None:
            seed += 1
        yield layout
        seed += 1


def _held_out(index: int) -> bool:
    return index % 5 == 4


def _recipe(index: int) -> Recipe:
    if index % 4 == 3:
        return Recipe(held_out=_held_out(index), overlapping=1.0, counts=(2, 3, 4))
    return Recipe(held_out=_held_out(index), overlapping=0.0)


def _resolve(index: int, seed: int) -> Layout | None:
    drawn = draw(sample(seed, _recipe(index)), CANVAS, CANVAS)
    boxes, items = drawn.boxes(), drawn.picture.items
    distinct = len({item.char for item in items}) == len(items)
    if not (distinct and all(map(_fits, boxes)) and min(drawn.visible()) >= MIN_VISIBLE):
        return None
    pairs = [iou(a, b) for a, b in combinations(boxes, 2)]
    overlapping = [pair for pair in pairs if pair > _APART]
    if bool(overlapping) != (index % 4 == 3) or not all(_OVERLAPPING <= pair <= MAX_IOU for pair in overlapping):
        return None
    scene = scene_of(drawn)
    regions = tuple(
        Wanted(char=item.char, colour=item.colour, box=box, phrase=region.phrase)
        for item, box, region in zip(items, boxes, scene.regions, strict=True)
    )
    return Layout(index=index, seed=seed, caption=scene.caption, regions=regions)


def _fits(box: Box) -> bool:
    w, h = box[2] - box[0], box[3] - box[1]
    return MIN_AREA <= w * h <= MAX_AREA and min(w, h) >= MIN_SIDE and 1 / _MAX_ASPECT <= w / h <= _MAX_ASPECT


def _parse(index: int, line: str) -> Layout:
    entry = json.loads(line)
    regions = tuple(
        Wanted(char=char, colour=colour, box=_fractions(*box), phrase=phrase)
        for char, colour, box, phrase in entry["regions"]
    )
    return Layout(index=index, seed=entry["seed"], caption=entry["caption"], regions=regions)


def _fractions(x0: int, y0: int, x1: int, y1: int) -> Box:
    return (x0 / CANVAS, y0 / CANVAS, x1 / CANVAS, y1 / CANVAS)
