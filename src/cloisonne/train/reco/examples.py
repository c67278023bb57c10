"""Training examples with ReCo sequences."""

from typing import Any

import torch

from cloisonne.methods.reco import Vocabulary
from cloisonne.train.datasets.augment import augmented
from cloisonne.train.datasets.training_image import ImageDataset
from cloisonne.train.engine.examples import AUGMENTATION, CAPTION, Batch, Canvas, Examples, as_pixels
from cloisonne.train.reco.captions import sequence_ids
from cloisonne.train.reco.settings import Settings


class ReCoExamples(Examples):
    """Example p: pixels [3, size, size] in -1..1, ids [L], timestep t in 0..T-1, and unit-variance noises of the
    latents and of the VAE posterior, each [C, H, W]."""

    def __init__(self, dataset: ImageDataset, settings: Settings, tokenizer: Any, canvas: Canvas) -> None:
        super().__init__(len(dataset), settings)
        self._dataset, self._settings, self._tokenizer, self._canvas = dataset, settings, tokenizer, canvas
        self._vocabulary = Vocabulary.of(tokenizer)

    def example(self, position: int) -> Batch:
        settings, canvas = self._settings, self._canvas
        rng = self.rng(position, CAPTION)
        image = self._dataset.load(self.index(position), rng)
        image = augmented(image, self.rng(position, AUGMENTATION), canvas.size, flip=settings.random_flip)
        ids = sequence_ids(
            self._tokenizer,
            self._vocabulary,
            image,
            rng,
            max_regions=settings.max_regions,
            empty=settings.proportion_empty_prompts,
        )
        noise = self.noise_generator(position)
        return {
            "pixels": as_pixels(image.rgb),
            "ids": torch.tensor(ids),
            "t": torch.randint(canvas.levels, (), generator=noise),
            "noise": torch.randn(canvas.latent, generator=noise),
            "posterior": torch.randn(canvas.latent, generator=noise),
        }
