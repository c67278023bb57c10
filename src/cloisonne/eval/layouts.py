"""layouts-v1: the fixed list of world scenes for layout-to-image.

The resolved list is stored next to this file, so it does not depend on the font; ``scan`` generates it. Every fifth
scene has held-out compositions only (object × colour or object × background pairs that are not in the training data),
and in a quarter of the scenes of each kind objects overlap. Kinds alternate, so that any prefix (``--limit``) is a fair
sample.
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
"""Hash of ``dump(layouts())``: tables with the same hash are about the same scenes."""
COUNT = 1000
CANVAS = 128
"""Side of the canvas in pixels; boxes are whole pixels."""
FIRST_SEED = 1 << 20
"""First seed of the scan for the list: far above the seeds of examples and tests, far below those of any training."""
REFERENCE_SEED = 1 << 21
"""First seed of the scan for real images of other scenes, for the Fréchet distances."""

_MAX_ASPECT = 2.0
_APART, _OVERLAPPING = 0.02, 0.05  # IoU of two boxes: at most, at least; scenes in between are skipped


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The object requested in one region: glyph, colour in the phrase (None: none), box and phrase."""

    char: str
    colour: str | None
    box: Box
    """Tight box of the object in the ground truth, hidden parts included: fractions (x0, y0, x1, y1)."""
    phrase: str


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One scene of the list."""

    index: int
    seed: int
    caption: str
    """Describes only the background: "on a beach"."""
    regions: tuple[Wanted, ...]

    @property
    def held_out(self) -> bool:
        """Whether every object is a held-out composition."""
        return _held_out(self.index)

    @property
    def sentence(self) -> str:
        """A caption with the regions' phrases, without positions: "a cat and a dog on a beach".

        It is the prompt of the row ``caption``, which has no regions.
        """
        phrases = [region.phrase for region in self.regions]
        things = phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
        return f"{things} {self.caption}"

    def overlapped(self, k: int) -> bool:
        """Whether region k overlaps another one (IoU of at least 0.05)."""
        return any(iou(self.regions[k].box, r.box) >= _OVERLAPPING for j, r in enumerate(self.regions) if j != k)

    def scene(self) -> Scene:
        """The scene with its regions, ``region-0``, ``region-1``, ... from back to front."""
        regions = tuple(Region(box=region.box, phrase=region.phrase) for region in self.regions)
        return Scene(width=CANVAS, height=CANVAS, caption=self.caption, regions=regions)

    def captioned(self) -> Scene:
        """The scene without regions, whose caption names all objects."""
        return Scene(width=CANVAS, height=CANVAS, caption=self.sentence)

    def truth(self) -> Drawn:
        """The ground-truth image, [128, 128]. Needs the font or its atlas."""
        return draw(sample(self.seed, _recipe(self.index)), CANVAS, CANVAS)


@functools.cache
def layouts() -> tuple[Layout, ...]:
    """The whole list. Raises CheckpointError if the stored file does not match the hash."""
    text = resources.files("cloisonne.eval").joinpath("layouts-v1.jsonl").read_text("utf-8")
    if hashlib.sha256(text.encode()).hexdigest() != SHA256:
        raise CheckpointError("layouts-v1.jsonl is not the published list (its SHA-256 differs): reinstall cloisonne.")
    return tuple(_parse(index, line) for index, line in enumerate(text.splitlines()))


def dump(items: Iterable[Layout]) -> str:
    """The list as text, one JSON line per layout; boxes in pixels. The stored file is ``dump(scan())``."""
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
    """Generate the list from its seeds: each index takes the next seed whose image obeys the rules of that index.

    The rules: tight boxes of area 0.04 to 0.36, shorter side at least 0.2, aspect 0.5 to 2; every object at least 60 %
    visible and of a class of its own (a class seen twice would be ambiguous); boxes apart (IoU ≤ 0.02), except at
    overlapping indices, where at least one pair has IoU 0.05 to 0.3.
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
