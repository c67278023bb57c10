"""Images of the procedural world as training data; the built-in family is trained on them."""

from dataclasses import replace

import numpy as np

from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.datasets.training_image import TrainingImage
from cloisonne.world.draw import draw
from cloisonne.world.picture import MAX_AREA, MIN_AREA, Recipe, sample
from cloisonne.world.words import caption, phrase

PICTURES = 40_000
"""Images per epoch."""
RECIPE = Recipe(counts=(1, 1, 2, 2, 3, 4))
_STYLE_REFERENCE_OFFSET = 1 << 24
"""Added to the seed of an image for the seed of its style reference."""


class WorldDataset:
    """Square images; image k has the seed ``TRAINING_SEEDS + k``.

    Args:
        size: Side in pixels.
        recipe: Distribution of the images.
        pictures: Images per epoch.
        style_pairs: Fraction of the images that have a style reference.
    """

    warnings: tuple[str, ...] = ()

    def __init__(self, size: int, recipe: Recipe = RECIPE, pictures: int = PICTURES, style_pairs: float = 0.0) -> None:
        self.size, self._recipe, self._pictures, self._style_pairs = size, recipe, pictures, style_pairs
        self.digest = f"world, {pictures} pictures of {size} pixels"
        if recipe != RECIPE:
            self.digest += f", {len(recipe.chars)} glyphs, {style_pairs:g} mates"

    def __len__(self) -> int:
        return self._pictures

    def load(self, index: int, rng: np.random.Generator) -> TrainingImage:
        """Render image ``index``, with random texts."""
        seed = TRAINING_SEEDS + index
        styled = bool(np.random.default_rng([seed, 20265]).random() < self._style_pairs)
        picture = sample(seed, replace(self._recipe, styled=1.0) if styled else self._recipe)
        drawn = draw(picture, self.size, self.size)
        boxes = drawn.boxes()
        text = caption(drawn.picture, boxes, rng)
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]
        phrases = [phrase(item, area, rng) for item, area in zip(drawn.picture.items, areas, strict=True)]
        reference = None
        if styled:
            other = replace(sample(seed + _STYLE_REFERENCE_OFFSET, self._recipe), style=picture.style)
            reference = draw(other, self.size, self.size).rgb
        return TrainingImage(drawn.rgb, text, tuple(zip(boxes, phrases, strict=True)), reference)

    def has_box(self, index: int, smallest: float, largest: float) -> bool:
        """Every world image has objects, each of ``MIN_AREA`` to ``MAX_AREA`` of the image."""
        return smallest <= MAX_AREA and largest >= MIN_AREA
