"""Training examples with a control map and the mask inside which it applies."""

from typing import Any

import numpy as np
import torch

from cloisonne.scene.control_maps import DRAWN
from cloisonne.train.control.masks import training_mask
from cloisonne.train.control.settings import Settings
from cloisonne.train.datasets.augment import augmented
from cloisonne.train.datasets.training_image import ImageDataset
from cloisonne.train.engine.examples import AUGMENTATION, CAPTION, Batch, Canvas, Examples, as_pixels


class MapExamples(Examples):
    """Example p: pixels [3, size, size] in -1..1, map [1 or 3, size, size] in 0..1, mask [1, size, size], caption ids
    [L], timestep t, and the noises of the latents and of the VAE posterior, each [C, H, W].

    text: the text encoder of the base.
    """

    def __init__(self, dataset: ImageDataset, settings: Settings, text: Any, canvas: Canvas) -> None:
        super().__init__(len(dataset), settings)
        self._dataset, self._settings, self._text, self._canvas = dataset, settings, text, canvas

    def example(self, position: int) -> Batch:
        settings, canvas = self._settings, self._canvas
        caption_rng, rng = self.rng(position, CAPTION), self.rng(position, AUGMENTATION)
        image = augmented(self._dataset.load(self.index(position), caption_rng), rng, canvas.size)
        caption = "" if caption_rng.random() < settings.proportion_empty_prompts else image.caption
        control = DRAWN[settings.kind](image.rgb)
        mask = training_mask(settings.mask, canvas.size, rng)
        noise = self.noise_generator(position)
        u = torch.rand((), generator=noise, dtype=torch.float64)
        if settings.timesteps == "cubic":
            u = 1 - u**3
        return {
            "pixels": as_pixels(image.rgb),
            "map": torch.from_numpy(np.atleast_3d(control)).permute(2, 0, 1).float() / 255,
            "mask": torch.from_numpy(mask)[None],
            "ids": torch.tensor(self._text.padded_ids(self._truncated(caption))),
            "t": (u * canvas.levels).long().clamp(max=canvas.levels - 1),
            "noise": torch.randn(canvas.latent, generator=noise),
            "posterior": torch.randn(canvas.latent, generator=noise),
        }

    def _truncated(self, caption: str) -> str:
        """The caption without its last words if it exceeds the text length of the model."""
        words = caption.split()[: self._text.length]
        tokenizer = self._text.tokenizer
        limit = self._text.capacity
        while len(tokenizer(" ".join(words), add_special_tokens=False, verbose=False).input_ids) > limit:
            words.pop()
        return " ".join(words)
