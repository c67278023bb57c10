"""Pictures of the procedural world as training data, the ones the built-in family is trained on."""

import numpy as np

from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.rows.shown import Shown
from cloisonne.world.draw import draw
from cloisonne.world.picture import Recipe, sample
from cloisonne.world.words import caption, phrase

PICTURES = 40_000
"""Pictures of one epoch."""
RECIPE = Recipe(counts=(1, 1, 2, 2, 3, 4))


class WorldRows:
    """Square pictures of ``size`` pixels; row k has the seed ``TRAINING_SEEDS + k``."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.digest = f"world, {PICTURES} pictures of {size} pixels"

    def __len__(self) -> int:
        return PICTURES

    def show(self, index: int, rng: np.random.Generator) -> Shown:
        """Picture ``index``, told in words of its own each time."""
        drawn = draw(sample(TRAINING_SEEDS + index, RECIPE), self.size, self.size)
        boxes = drawn.boxes()
        told = caption(drawn.picture, boxes, rng)
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]
        phrases = [phrase(item, area, rng) for item, area in zip(drawn.picture.items, areas, strict=True)]
        return Shown(drawn.rgb, told, tuple(zip(boxes, phrases, strict=True)))
