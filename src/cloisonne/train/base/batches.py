"""Batches for the base: stored latents, their labels and captions. The step alone determines a batch."""

import zlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cloisonne.methods.reco import Vocabulary
from cloisonne.train.base.captions import SHARES, caption_tokens
from cloisonne.train.base.exemplars import SIDE, ExemplarText, exemplar_text
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
    exemplars: Tensor
    """Exemplars of all rows, [e, side, side, 3] uint8."""
    places: Tensor
    """[r, L]: k + 1 where the k-th pseudo-word of the exemplars stands in place of the token, else 0."""

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
    pseudo: tuple[int, int] = (0, 0)
    """Numbers of pseudo-words of an exemplar's pooled features and of its details."""

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
        chosen, described = self._with_exemplars(store, chosen, modes, rng)
        texts = [
            self._text(store, int(chosen[k]), str(modes[k]), bool(described[k]), np.random.default_rng([step, 7, k]))
            for k in range(count)[rows]
        ]
        generator = torch.Generator().manual_seed(zlib.crc32(f"base {step}".encode()))
        noise = torch.randn((count, *store.shape), generator=generator)
        anywhere = torch.randint(0, 1000, (count,), generator=generator)
        above = torch.randint(400, 1000, (count,), generator=generator)
        t = torch.where(torch.rand(count, generator=generator) < self.recipe.noisy, above, anywhere)
        z0, classes, colours = store.batch(chosen[rows])
        exemplars, places = self._exemplars(texts)
        return Batch(
            ids=torch.tensor([x.tokens.ids for x in texts]),
            owners=torch.tensor([x.tokens.owners for x in texts]),
            placed=torch.tensor([float(x.tokens.placed) for x in texts]),
            z0=z0,
            noise=noise[rows],
            t=t[rows],
            classes=classes,
            colours=colours,
            items=store.items(chosen[rows]),
            exemplars=exemplars,
            places=places,
        )

    def _with_exemplars(
        self, store: LatentStore, chosen: np.ndarray, modes: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The images of a batch, and whether exemplars describe them; a share of those show glyphs beyond the core."""
        if not self.recipe.exemplars:
            return chosen, np.zeros(len(chosen), bool)
        described = (rng.random(len(chosen)) < self.recipe.exemplars) & (modes != "null")
        beyond = described & (rng.random(len(chosen)) < self.recipe.exemplars_beyond_core)
        return np.where(beyond, store.choose_beyond_core(rng, len(chosen)), chosen), described

    def _text(
        self, store: LatentStore, index: int, mode: str, described: bool, rng: np.random.Generator
    ) -> ExemplarText:
        v = Vocabulary.of(self.tokenizer)
        if described:
            return exemplar_text(store, index, rng, self.tokenizer, v, *self.pseudo)
        return ExemplarText(tokens=caption_tokens(store, index, mode, rng, self.tokenizer, v))

    def _exemplars(self, texts: list[ExemplarText]) -> tuple[Tensor, Tensor]:
        """Images of all exemplars, and the places of their pseudo-words."""
        places = np.zeros((len(texts), len(texts[0].tokens.ids)), np.int64)
        images: list[np.ndarray] = []
        for row, text in enumerate(texts):
            for exemplar in text.exemplars:
                first = 1 + len(images) * sum(self.pseudo)
                places[row, list(exemplar.places)] = np.arange(first, first + len(exemplar.places))
                images.append(exemplar.image)
        stacked = np.stack(images) if images else np.zeros((0, SIDE, SIDE, 3), np.uint8)
        return torch.from_numpy(stacked), torch.from_numpy(places)
