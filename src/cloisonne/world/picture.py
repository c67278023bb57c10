"""The content of a world image, sampled from an integer seed before rendering.

Canvas coordinates are fractions (x0, y0, x1, y1).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cloisonne.scene.shapes.geometry import Box, area, iou, overlap
from cloisonne.world.glyphs import COLOURS, CORE, TRAINING

BACKGROUNDS = ("meadow", "beach", "night", "desert", "snow", "table", "bricks", "ocean", "city", "room", "studio")
STYLES = ("natural", "pencil sketch", "pixel art", "mosaic", "blueprint", "sepia print", "watercolour", "neon on black")

HELD_OUT_STYLES = ("mosaic", "neon on black")
"""Styles that are not in the training data of the base."""

MIN_SIDE = 0.2
MIN_AREA, MAX_AREA = 0.04, 0.36
MAX_IOU, MIN_VISIBLE = 0.3, 0.6


@dataclass(frozen=True, kw_only=True)
class Item:
    """One object: glyph, colour (None = the glyph's own), box before rotation, mirroring and rotation."""

    char: str
    colour: str | None
    box: Box
    flip: bool
    angle: float
    """Degrees, anticlockwise, within ±15."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The content of a world image; later items are in front of earlier ones."""

    seed: int
    background: str
    style: str
    items: tuple[Item, ...]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The distribution of world images; the default covers the core glyphs in the natural style."""

    chars: tuple[str, ...] = tuple(c.char for c in CORE)
    counts: tuple[int, ...] = (1, 2, 3, 4)
    overlapping: float = 0.25
    """Fraction of the images with several objects in which two overlap."""
    styled: float = 0.0
    """Fraction of the images in a style other than natural."""
    styles: tuple[str, ...] = STYLES[1:]
    """The styles of those images."""
    beyond_core: float = 0.0
    """Fraction of the images with a single training glyph from outside the core."""
    colours: bool = True
    held_out: bool | None = False
    """Held-out compositions: False = excluded (training), True = only these, None = not filtered."""


EVERYTHING = Recipe(chars=TRAINING, styled=0.15)
_NAMES = {c.char: c.name for c in CORE}
_BEYOND_CORE = tuple(char for char in TRAINING if char not in _NAMES)
_RECOLOURABLE = {c.char for c in CORE if c.recolourable}


def is_held_out(char: str, colour: str | None, background: str) -> bool:
    """Whether this object is held out of training in this colour or with this background (10 % of the core's pairs
    each)."""
    name = _NAMES.get(char)
    if name is None:
        return False
    return (colour is not None and _tenth(f"{name}|{colour}")) or _tenth(f"{name}|{background}")


def _tenth(pair: str) -> bool:
    return hashlib.sha256(pair.encode()).digest()[0] < 26


def sample(seed: int, recipe: Recipe = Recipe()) -> Picture:
    """The picture of a seed: 1 to 4 objects with little overlap, except for two in ``overlapping`` of the images."""
    rng = np.random.default_rng([seed, 20260])
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    style = recipe.styles[rng.integers(len(recipe.styles))] if rng.random() < recipe.styled else "natural"
    if recipe.beyond_core and rng.random() < recipe.beyond_core:
        recipe = replace(recipe, chars=_BEYOND_CORE, counts=(1,))
    count = int(rng.choice(recipe.counts))
    overlap = count > 1 and rng.random() < recipe.overlapping
    boxes = _place(rng, count, overlap)
    items = []
    for box in boxes:
        char, colour = _object(rng, recipe, background)
        items.append(
            Item(
                char=char,
                colour=colour,
                box=box,
                flip=bool(rng.random() < 0.5),
                angle=float(rng.uniform(-15, 15)) if rng.random() < 0.5 else 0.0,
            )
        )
    return Picture(seed=seed, background=background, style=style, items=tuple(items))


def alone(
    char: str,
    colour: str | None,
    backgrounds: Sequence[str],
    rng: np.random.Generator,
    seeds: int,
    style: str = "natural",
) -> Picture:
    """A picture of one large object, mirrored in half of the cases, and rotated. seeds: its seed is below this."""
    item = Item(
        char=char,
        colour=colour,
        box=(0.15, 0.15, 0.85, 0.85),
        flip=bool(rng.random() < 0.5),
        angle=float(rng.uniform(-15, 15)),
    )
    seed = int(rng.integers(seeds))
    background = backgrounds[int(rng.integers(len(backgrounds)))]
    return Picture(seed=seed, background=background, style=style, items=(item,))


def _object(rng: np.random.Generator, recipe: Recipe, background: str) -> tuple[str, str | None]:
    for _ in range(1000):
        char = recipe.chars[rng.integers(len(recipe.chars))]
        coloured = recipe.colours and char in _RECOLOURABLE and rng.random() < 0.6
        colour = COLOURS[rng.integers(len(COLOURS))] if coloured else None
        if recipe.held_out is None or is_held_out(char, colour, background) == recipe.held_out:
            return char, colour
    raise AssertionError("no object of the recipe fits the background")


def _place(rng: np.random.Generator, count: int, overlapping: bool) -> list[Box]:
    largest = {1: MAX_AREA, 2: 0.30, 3: 0.22, 4: 0.17}[count]
    while True:
        boxes: list[Box] = []
        for k in range(count):
            for _ in range(40):
                box = _box(rng, largest)
                if k == 1 and overlapping:
                    fits = 0.05 <= iou(box, boxes[0]) <= MAX_IOU and hidden(boxes[0], box) <= 1 - MIN_VISIBLE
                else:
                    fits = all(iou(box, other) <= 0.02 for other in boxes)
                if fits:
                    boxes.append(box)
                    break
            else:
                break
        if len(boxes) == count:
            return boxes


def _box(rng: np.random.Generator, largest: float) -> Box:
    side = float(np.sqrt(np.exp(rng.uniform(np.log(0.05), np.log(largest)))))
    x, y = rng.uniform(0.01, 0.99 - side, 2)
    return (float(x), float(y), float(x) + side, float(y) + side)


def hidden(below: Box, above: Box) -> float:
    """Fraction of the box ``below`` that the box ``above`` covers."""
    return overlap(below, above) / area(below)
