"""Batches of the base: stored latents, what they show, and what is told about them. The step alone decides a batch."""

import zlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cloisonne.methods.reco import Vocabulary
from cloisonne.train.base.captions import SHARES, tell
from cloisonne.train.base.latents import LatentStore
from cloisonne.train.base.recipe import BaseRecipe


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some rows of a step's batch."""

    ids: Tensor
    """[r, L], token ids."""
    owners: Tensor
    """[r, L], k + 1 for a token about item k."""
    placed: Tensor
    """[r], 1 where the text says where items are."""
    z0: Tensor
    """[r, C, h, w], clean latents."""
    noise: Tensor
    """[r, C, h, w]."""
    t: Tensor
    """[r], in 0..999."""
    classes: Tensor
    """[r, h, w], what each cell shows; 0 is none of the core."""
    colours: Tensor
    """[r, h, w], the named colour of it; 0 is none."""
    items: Tensor
    """[r, 1 + 4, h, w], which item each cell shows, one-hot."""

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Where batches come from; other processes can be given it."""

    store: LatentStore
    half: LatentStore | None
    """The same pictures drawn half as large."""
    tokenizer: Any
    recipe: BaseRecipe

    def rows(self, rows: slice, simple: bool, half: bool, step: int) -> Batch:
        """These rows of the step's batch. simple: single objects only. half: from the half-sized pictures.

        What a row is does not depend on which others are asked for.
        """
        count = self.recipe.batch
        store = self.half if half and self.half is not None else self.store
        rng = np.random.default_rng([step, 7])
        chosen = store.choose(rng, count, simple=simple)
        ways = rng.choice(list(SHARES), count, p=list(SHARES.values()))
        v = Vocabulary.of(self.tokenizer)
        told = [
            tell(store, int(chosen[k]), str(ways[k]), np.random.default_rng([step, 7, k]), self.tokenizer, v)
            for k in range(count)[rows]
        ]
        generator = torch.Generator().manual_seed(zlib.crc32(f"base {step}".encode()))
        noise = torch.randn((count, *store.shape), generator=generator)
        anywhere = torch.randint(0, 1000, (count,), generator=generator)
        above = torch.randint(400, 1000, (count,), generator=generator)
        t = torch.where(torch.rand(count, generator=generator) < self.recipe.noisy, above, anywhere)
        z0, classes, colours = store.batch(chosen[rows])
        return Batch(
            ids=torch.tensor([x.ids for x in told]),
            owners=torch.tensor([x.owners for x in told]),
            placed=torch.tensor([float(x.placed) for x in told]),
            z0=z0,
            noise=noise[rows],
            t=t[rows],
            classes=classes,
            colours=colours,
            items=store.items(chosen[rows]),
        )
