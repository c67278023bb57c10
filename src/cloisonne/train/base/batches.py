"""Batches for the base: stored latents, their labels and captions. The step alone determines a batch."""

import zlib
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cloisonne.methods.reco import Vocabulary
from cloisonne.train.base.captions import SHARES, caption_tokens
from cloisonne.train.base.exemplars import SIDE, ExemplarText, exemplar_text, hole_text
from cloisonne.train.base.latents import LatentStore, cells_inside
from cloisonne.train.base.recipe import BaseRecipe

HOLE, EXEMPLARS = "hole", "exemplars"
"""Modes of a row beside those of captions."""


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
    weights: Tensor
    """[r, 1, h, w]: weights of the v error, with mean 1 in each row."""
    exemplars: Tensor
    """Exemplars of all rows, [e, side, side, 3] uint8."""
    places: Tensor
    """[r, L]: k + 1 where the k-th pseudo-word of the exemplars stands in place of the token, else 0."""
    holed: Tensor
    """[m]: the rows with a hole."""
    pixels: Tensor
    """Their images, [m, height, width, 3] uint8."""
    holes: Tensor
    """Their holes, [m, height, width] bool."""

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
        if not half:
            chosen, modes = self._with_exemplars(store, chosen, modes, rng)
        texts = [
            self._text(store, int(chosen[k]), str(modes[k]), np.random.default_rng([step, 7, k]))
            for k in range(count)[rows]
        ]
        generator = torch.Generator().manual_seed(zlib.crc32(f"base {step}".encode()))
        noise = torch.randn((count, *store.shape), generator=generator)
        anywhere = torch.randint(0, 1000, (count,), generator=generator)
        above = torch.randint(400, 1000, (count,), generator=generator)
        t = torch.where(torch.rand(count, generator=generator) < self.recipe.noisy, above, anywhere)
        z0, classes, colours = store.batch(chosen[rows])
        exemplars, places = self._exemplars(texts)
        holes = {k: x.hole for k, x in enumerate(texts) if x.hole is not None}
        placed = [float(x.tokens.placed) for x in texts]
        side = 8 * store.shape[-1]
        return Batch(
            ids=torch.tensor([x.tokens.ids for x in texts]),
            owners=torch.tensor([x.tokens.owners for x in texts]),
            placed=torch.tensor(placed),
            z0=z0,
            noise=noise[rows],
            t=t[rows],
            classes=classes,
            colours=colours,
            items=store.items(chosen[rows]),
            weights=self._weights(store, chosen[rows], placed),
            exemplars=exemplars,
            places=places,
            holed=torch.tensor(list(holes), dtype=torch.long),
            pixels=_stacked([own.rgb for own in holes.values()], (side, side, 3), np.uint8),
            holes=_stacked([own.mask for own in holes.values()], (side, side), np.bool_),
        )

    def _with_exemplars(
        self, store: LatentStore, chosen: np.ndarray, modes: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images and modes of a batch, in which some have a hole or exemplars."""
        recipe = self.recipe
        if not recipe.exemplars and not recipe.holes:
            return chosen, modes
        coins = rng.random((2, len(chosen)))
        holes = coins[0] < recipe.holes
        changed = holes | ((coins[0] < recipe.holes + recipe.exemplars) & (modes != "null"))
        beyond = changed & (coins[1] < recipe.beyond_core)
        chosen = np.where(beyond, store.choose_beyond_core(rng, len(chosen)), chosen)
        return chosen, np.where(holes, HOLE, np.where(changed, EXEMPLARS, modes.astype(object)))

    def _weights(self, store: LatentStore, chosen: np.ndarray, placed: list[float]) -> Tensor:
        """Weights of the v error [r, 1, h, w].

        They depend on what the text states, the boxes, and not on the image itself: the minimum of the error stays the
        mean of the images that the text describes.
        """
        weights = np.ones((len(chosen), 1, *store.shape[1:]), np.float32)
        for row, index in enumerate(chosen):
            for box in store.boxes(index) if placed[row] else ():
                inside = cells_inside(box, *store.shape[1:])
                weights[row, 0][inside] += self.recipe.boxes / np.sqrt(max(1, inside.sum()))
        return torch.from_numpy(weights / weights.mean((2, 3), keepdims=True))

    def _text(self, store: LatentStore, index: int, mode: str, rng: np.random.Generator) -> ExemplarText:
        v = Vocabulary.of(self.tokenizer)
        if mode == HOLE:
            return hole_text(store, index, rng, v, *self.pseudo)
        if mode == EXEMPLARS:
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
        return _stacked(images, (SIDE, SIDE, 3), np.uint8), torch.from_numpy(places)


def _stacked(arrays: list[np.ndarray], shape: tuple[int, ...], dtype: Any) -> Tensor:
    """Arrays of equal shape as one tensor, whether or not there are any."""
    return torch.from_numpy(np.stack(arrays) if arrays else np.zeros((0, *shape), dtype))
