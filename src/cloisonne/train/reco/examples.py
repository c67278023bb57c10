"""Examples of pictures told as ReCo sequences."""

from typing import Any

import torch

from cloisonne.methods.reco import Vocabulary
from cloisonne.train.datasets.augment import augmented
from cloisonne.train.datasets.shown import Rows
from cloisonne.train.engine.examples import LOOK, WORDS, Batch, Canvas, Examples, as_pixels
from cloisonne.train.reco.captions import tell
from cloisonne.train.reco.settings import Settings


class ToldExamples(Examples):
    """Example p: pixels [3, size, size] in -1..1, ids [L], t in 0..T-1, noise and posterior [C, H, W] of unit
    variance."""

    def __init__(self, rows: Rows, settings: Settings, tokenizer: Any, canvas: Canvas) -> None:
        super().__init__(len(rows), settings)
        self._rows, self._settings, self._tokenizer, self._canvas = rows, settings, tokenizer, canvas
        self._vocabulary = Vocabulary.of(tokenizer)

    def example(self, position: int) -> Batch:
        settings, canvas = self._settings, self._canvas
        rng = self.rng(position, WORDS)
        shown = self._rows.show(self.index(position), rng)
        shown = augmented(shown, self.rng(position, LOOK), canvas.size, flip=settings.random_flip)
        ids = tell(
            self._tokenizer,
            self._vocabulary,
            shown,
            rng,
            max_regions=settings.max_regions,
            empty=settings.proportion_empty_prompts,
        )
        noise = self.noise_generator(position)
        return {
            "pixels": as_pixels(shown.rgb),
            "ids": torch.tensor(ids),
            "t": torch.randint(canvas.levels, (), generator=noise),
            "noise": torch.randn(canvas.latent, generator=noise),
            "posterior": torch.randn(canvas.latent, generator=noise),
        }
