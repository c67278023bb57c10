"""Pictures of the procedural world as training data, the ones the built-in family is trained on."""

from dataclasses import replace

import numpy as np

from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.datasets.shown import Shown
from cloisonne.world.draw import draw
from cloisonne.world.picture import MAX_AREA, MIN_AREA, Recipe, sample
from cloisonne.world.words import caption, phrase

PICTURES = 40_000
"""Pictures of one epoch."""
RECIPE = Recipe(counts=(1, 1, 2, 2, 3, 4))
_MATES = 1 << 24
"""Further on in the seeds lie the mates."""


class WorldRows:
    """Square pictures of ``size`` pixels; row k has the seed ``TRAINING_SEEDS + k``.

    mates: share of the rows that are shown for their style, with another picture of it.
    """

    warnings: tuple[str, ...] = ()

    def __init__(self, size: int, recipe: Recipe = RECIPE, pictures: int = PICTURES, mates: float = 0.0) -> None:
        self.size, self._recipe, self._pictures, self._mates = size, recipe, pictures, mates
        self.digest = f"world, {pictures} pictures of {size} pixels"
        if recipe != RECIPE:
            self.digest += f", {len(recipe.chars)} glyphs, {mates:g} mates"

    def __len__(self) -> int:
        return self._pictures

    def show(self, index: int, rng: np.random.Generator) -> Shown:
        """Picture ``index``, told in words of its own each time."""
        seed = TRAINING_SEEDS + index
        styled = bool(np.random.default_rng([seed, 20265]).random() < self._mates)
        picture = sample(seed, replace(self._recipe, styled=1.0) if styled else self._recipe)
        drawn = draw(picture, self.size, self.size)
        boxes = drawn.boxes()
        told = caption(drawn.picture, boxes, rng)
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]
        phrases = [phrase(item, area, rng) for item, area in zip(drawn.picture.items, areas, strict=True)]
        mate = None
        if styled:
            other = replace(sample(seed + _MATES, self._recipe), style=picture.style)
            mate = draw(other, self.size, self.size).rgb
        return Shown(drawn.rgb, told, tuple(zip(boxes, phrases, strict=True)), mate)

    def has_box(self, index: int, smallest: float, largest: float) -> bool:
        """Every picture of the world has objects, of ``MIN_AREA`` to ``MAX_AREA`` of it."""
        return smallest <= MAX_AREA and largest >= MIN_AREA
