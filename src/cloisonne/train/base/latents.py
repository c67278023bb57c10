"""Latents of rendered images, encoded once and stored in memory-mapped files, with dense labels and boxes."""

from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.models.vae import Vae
from cloisonne.scene.shapes.geometry import Box
from cloisonne.train.data import TRAINING_SEEDS, as_tensor
from cloisonne.train.precision import autocast
from cloisonne.train.prefetch import Prefetch, processes
from cloisonne.world.draw import Drawn, draw
from cloisonne.world.glyphs import COLOURS, CORE
from cloisonne.world.picture import Picture, Recipe, sample

_CLASS = {c.char: k + 1 for k, c in enumerate(CORE)}
UNLABELLED = 255
"""Stored for cells without a label: the class of a non-core glyph, or the colour in a style other than natural."""
IGNORED = -100
"""Label of such cells in a batch; ``torch.nn.functional.cross_entropy`` ignores it."""
_COLOUR = {c: k + 1 for k, c in enumerate(COLOURS)}


_sampled = lru_cache(4096)(sample)


class LatentStore:
    """A growing set of encoded images: latents [n, C, h, w] float16, dense labels, boxes. Image k has the seed
    ``first_seed + k``."""

    def __init__(
        self, folder: Path, recipe: Recipe, shape: tuple[int, int, int], capacity: int, first_seed: int = TRAINING_SEEDS
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.recipe, self.first_seed, self.capacity = recipe, first_seed, capacity
        self._count_file = folder / "count.npy"
        fresh = not self._count_file.is_file()
        self.folder, self.shape = folder, shape
        mode = "w+" if fresh else "r+"
        self._latents = np.lib.format.open_memmap(folder / "latents.npy", mode, np.float16, (capacity, *shape))
        self._classes = np.lib.format.open_memmap(folder / "classes.npy", mode, np.uint8, (capacity, 2, *shape[1:]))
        self._boxes = np.lib.format.open_memmap(folder / "boxes.npy", mode, np.float32, (capacity, 4, 4))
        if fresh:
            np.save(self._count_file, np.array(0))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments only; a worker process reopens the files."""
        return LatentStore, (self.folder, self.recipe, self.shape, self.capacity, self.first_seed)

    def __len__(self) -> int:
        return int(np.load(self._count_file))

    def append(self, drawn: list[Drawn], latents: Tensor) -> None:
        """Append images, in the order of their seeds."""
        start = len(self)
        for k, d in enumerate(drawn):
            index = start + k
            assert d.picture.seed == self.first_seed + index
            self._latents[index] = latents[k].half().numpy()
            self._classes[index] = cells(d, self._latents.shape[-1])
            boxes = d.boxes()
            self._boxes[index, : len(boxes)] = boxes
        np.save(self._count_file, np.array(start + len(drawn)))

    def picture(self, index: int) -> Picture:
        """The content of a stored image."""
        return _sampled(self.first_seed + int(index), self.recipe)

    def boxes(self, index: int) -> list[tuple[float, float, float, float]]:
        count = len(self.picture(index).items)
        return [tuple(float(x) for x in row) for row in self._boxes[index, :count]]  # type: ignore[misc]

    def choose(self, rng: np.random.Generator, count: int, *, simple: bool = False) -> np.ndarray:
        """Sample the indices of a batch uniformly from the encoded images.

        simple: only images of a single object from the first half of the core.
        """
        return rng.choice(self._simple, count) if simple else rng.integers(0, len(self), count)

    def choose_beyond_core(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Sample the indices of images with a glyph from outside the core; any images if none is stored."""
        return rng.choice(self._beyond_core, count) if len(self._beyond_core) else self.choose(rng, count)

    @cached_property
    def _beyond_core(self) -> np.ndarray:
        return np.flatnonzero((self._classes[: len(self), 0] == UNLABELLED).any((1, 2)))

    @cached_property
    def _simple(self) -> np.ndarray:
        stored = len(self)
        alone = ~self._boxes[:stored, 1].any(-1)
        return np.flatnonzero(alone & (self._classes[:stored, 0].max((1, 2)) <= len(CORE) // 2))

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Latents float32 [n, C, h, w], classes and colours int64 [n, h, w]; ``IGNORED`` where there is no label."""
        z = torch.from_numpy(self._latents[indices]).float()
        dense = torch.from_numpy(self._classes[indices]).long()
        dense[dense == UNLABELLED] = IGNORED
        return z, dense[:, 0], dense[:, 1]

    def items(self, indices: np.ndarray) -> Tensor:
        """The item in each latent cell, one-hot float32 [n, 1 + 4, h, w]; 0 is none.

        A cell belongs to an item if it has the class of the item and its centre lies in the box of the item.
        """
        h, w = self._classes.shape[-2:]
        item_of = np.zeros((len(indices), h, w), np.int64)
        for row, index in enumerate(indices):
            for k, (item, box) in enumerate(zip(self.picture(index).items, self.boxes(index), strict=True)):
                inside = cells_inside(box, h, w)
                item_of[row][inside & (self._classes[index, 0] == _CLASS.get(item.char, UNLABELLED))] = k + 1
        return F.one_hot(torch.from_numpy(item_of), 5).permute(0, 3, 1, 2).float()


def cells_inside(box: Box, height: int, width: int) -> np.ndarray:
    """Whether the centre of each latent cell lies in a box, bool [height, width]."""
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width)[None] + 0.5) / width
    return (y >= box[1]) & (y <= box[3]) & (x >= box[0]) & (x <= box[2])


def cells(d: Drawn, side: int) -> np.ndarray:
    """Class and colour at the centre of each latent cell, uint8 [2, side, side]; may be ``UNLABELLED``."""
    step = d.labels.shape[0] // side
    centres = d.labels[step // 2 :: step, step // 2 :: step]
    natural = d.picture.style == "natural"
    class_of = np.array([0] + [_CLASS.get(i.char, UNLABELLED) for i in d.picture.items], np.uint8)
    colours = [(_COLOUR[i.colour] if natural else UNLABELLED) if i.colour else 0 for i in d.picture.items]
    colour_of = np.array([0, *colours], np.uint8)
    return np.stack([class_of[centres], colour_of[centres]])


def fill(store: LatentStore, vae: Vae, count: int, report: Callable[[str], None] = print, batch: int = 48) -> None:
    """Render and encode images, eight pixels per latent, until the store holds ``count``; resumes a previous call."""
    first_index = len(store)
    ready = Prefetch(partial(_drawn, store, first_index, count, batch), processes(vae.module.device))
    while len(store) < count:
        start = len(store)
        drawn = ready((start - first_index) // batch)
        with autocast(vae.module.device):
            latents = vae.encode(as_tensor(np.stack([d.rgb for d in drawn])))
        store.append(drawn, latents.cpu())
        if start // 4800 != len(store) // 4800 or len(store) == count:
            report(f"encoded {len(store)} of {count}")


def _drawn(store: LatentStore, first_index: int, count: int, batch: int, step: int) -> list[Drawn]:
    """Render the images of a step, from ``first_index`` up to ``count``, eight pixels per latent."""
    height, width = (8 * side for side in store.shape[1:])
    first = first_index + step * batch
    seeds = range(store.first_seed + first, store.first_seed + min(first + batch, count))
    return [draw(sample(seed, store.recipe), width, height) for seed in seeds]
