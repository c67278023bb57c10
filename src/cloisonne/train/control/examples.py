"""Examples that teach to obey a map of the picture where a mask says so."""

from typing import Any

import numpy as np
import torch

from cloisonne.scene.control_maps import DRAWN
from cloisonne.train.control.masks import training_mask
from cloisonne.train.control.settings import Settings
from cloisonne.train.datasets.augment import augmented
from cloisonne.train.datasets.shown import Rows
from cloisonne.train.engine.examples import LOOK, WORDS, Batch, Canvas, Examples, as_pixels


class MapExamples(Examples):
    """Example p: pixels [3, size, size] in -1..1, map [1 or 3, size, size] in 0..1, mask [1, size, size], ids [L] of
    the caption, t, and the noises of latents and posterior [C, H, W].

    text: the base's text encoder.
    """

    def __init__(self, rows: Rows, settings: Settings, text: Any, canvas: Canvas) -> None:
        super().__init__(len(rows), settings)
        self._rows, self._settings, self._text, self._canvas = rows, settings, text, canvas

    def example(self, position: int) -> Batch:
        settings, canvas = self._settings, self._canvas
        words, look = self.rng(position, WORDS), self.rng(position, LOOK)
        shown = augmented(self._rows.show(self.index(position), words), look, canvas.size)
        told = "" if words.random() < settings.proportion_empty_prompts else shown.caption
        drawn = DRAWN[settings.kind](shown.rgb)
        mask = training_mask(settings.mask, canvas.size, look)
        noise = self.noise_generator(position)
        at = torch.rand((), generator=noise, dtype=torch.float64)
        if settings.timesteps == "cubic":
            at = 1 - at**3
        return {
            "pixels": as_pixels(shown.rgb),
            "map": torch.from_numpy(np.atleast_3d(drawn)).permute(2, 0, 1).float() / 255,
            "mask": torch.from_numpy(mask)[None],
            "ids": torch.tensor(self._text.ids(self._cut(told))),
            "t": (at * canvas.levels).long().clamp(max=canvas.levels - 1),
            "noise": torch.randn(canvas.latent, generator=noise),
            "posterior": torch.randn(canvas.latent, generator=noise),
        }

    def _cut(self, caption: str) -> str:
        """The caption without the last words, if it does not fit the model's texts."""
        words = caption.split()[: self._text.length]
        tokenizer = self._text.tokenizer
        room = self._text.length - 2
        while len(tokenizer(" ".join(words), add_special_tokens=False, verbose=False).input_ids) > room:
            words.pop()
        return " ".join(words)
