"""Batches for the base: stored latents, their labels and captions. The step alone determines a batch."""

import zlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cloisonne.methods.reco import Vocabulary
from cloisonne.train.base.captions import SHARES, caption_tokens
from cloisonne.train.base.latents import LatentStore
from cloisonne.train.base.recipe import BaseRecipe


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of the batch of a step; r is the number of rows."""

    ids: Tensor
    """Token ids [r, L]."""
    owners: Tensor
    """[r, L]: k + 1 for a token that describes item k, else 0."""
    placed: Tensor
    """[r]: 1 if the text states the positions of the items."""
    z0: Tensor
    """Clean latents [r, C, h, w]."""
    noise: Tensor
    """Noise [r, C, h, w]."""
    t: Tensor
    """Timesteps [r], 0..999."""
    classes: Tensor
    """[r, h, w]: class of the object in each cell; 0 if it is no core object."""
    colours: Tensor
    """[r, h, w]: named colour of the object in each cell; 0 if it has none."""
    items: Tensor
    """[r, 1 + 4, h, w]: the item in each cell, one-hot; 0 is none."""

    def to(self, device: torch.device) -> "Batch":
        """Copy the batch to a device."""
        return Batch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Makes batches; picklable, for worker processes."""

    store: LatentStore
    half: LatentStore | None
    """The same images at half the resolution."""
    tokenizer: Any
    recipe: BaseRecipe

    def rows(self, rows: slice, simple: bool, half: bool, step: int) -> Batch:
        """Some rows of the batch of a step; a row does not depend on which other rows are requested.

        Args:
            rows: Slice of the batch.
            simple: Use images of a single object only.
            half: Use the images at half the resolution.
            step: The training step.
        """
        count = self.recipe.batch
        store = self.half if half and self.half is not None else self.store
        rng = np.random.default_rng([step, 7])
        chosen = store.choose(rng, count, simple=simple)
        modes = rng.choice(list(SHARES), count, p=list(SHARES.values()))
        v = Vocabulary.of(self.tokenizer)
        captions = [
            caption_tokens(store, int(chosen[k]), str(modes[k]), np.random.default_rng([step, 7, k]), self.tokenizer, v)
            for k in range(count)[rows]
        ]
        generator = torch.Generator().manual_seed(zlib.crc32(f"base {step}".encode()))
        noise = torch.randn((count, *store.shape), generator=generator)
        anywhere = torch.randint(0, 1000, (count,), generator=generator)
        above = torch.randint(400, 1000, (count,), generator=generator)
        t = torch.where(torch.rand(count, generator=generator) < self.recipe.noisy, above, anywhere)
        z0, classes, colours = store.batch(chosen[rows])
        return Batch(
            ids=torch.tensor([x.ids for x in captions]),
            owners=torch.tensor([x.owners for x in captions]),
            placed=torch.tensor([float(x.placed) for x in captions]),
            z0=z0,
            noise=noise[rows],
            t=t[rows],
            classes=classes,
            colours=colours,
            items=store.items(chosen[rows]),
        )
