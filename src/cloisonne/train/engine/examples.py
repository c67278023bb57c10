"""Training examples by position: example ``p`` depends on the seed and ``p`` alone.

So the numbers of workers and processes, and resuming, do not change the examples, and no generator state is saved.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from cloisonne.errors import CloisonneError
from cloisonne.train.engine.settings import Settings

Batch = dict[str, Tensor]

ORDER, SUBSET, CAPTION, AUGMENTATION, NOISE = range(5)
"""Independent random streams of an example."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """size: image side in pixels. latent: (C, H, W) of the latents. levels: number of training timesteps."""

    size: int
    latent: tuple[int, int, int]
    levels: int


class Examples(Dataset[Any]):
    """Examples of a dataset of ``count`` images. Every epoch visits each image once, in its own random order."""

    def __init__(self, count: int, settings: Settings) -> None:
        self.seed = settings.seed
        size = min(count, settings.max_train_samples or count)
        self._subset = self.rng(0, SUBSET).permutation(count)[:size]

    def __len__(self) -> int:
        """Number of images per epoch."""
        return len(self._subset)

    def __getitem__(self, position: int) -> Batch | CloisonneError:
        """Return a CloisonneError instead of raising it: an exception in a worker surfaces as a traceback."""
        try:
            return self.example(position)
        except CloisonneError as error:
            return error

    @abstractmethod
    def example(self, position: int) -> Batch:
        """The tensors of one example."""

    def index(self, position: int) -> int:
        """Dataset index of the image at a position."""
        epoch, place = divmod(position, len(self))
        return int(self._subset[_permutation(self.seed, epoch, len(self))[place]])

    def rng(self, position: int, stream: int) -> np.random.Generator:
        """The generator of one random stream of an example."""
        return _rng(self.seed, position, stream)

    def noise_generator(self, position: int) -> torch.Generator:
        """The generator of an example's timestep and noises."""
        return torch.Generator().manual_seed(int(self.rng(position, NOISE).integers(2**63)))


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return _rng(seed, epoch, ORDER).permutation(count)


def _rng(seed: int, position: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, position, stream, 20264])


class PositionSampler:
    """Batch sampler: the positions of one process, batch by batch, from step ``first`` up to ``last`` (excluded).

    The positions of a step are consecutive; each forward pass is split among the processes in the order of their ranks.
    """

    def __init__(self, settings: Settings, *, rank: int, world: int, first: int, last: int) -> None:
        self._size, self._rank, self._world = settings.train_batch_size, rank, world
        self._passes = range(first * settings.gradient_accumulation_steps, last * settings.gradient_accumulation_steps)

    def __len__(self) -> int:
        return len(self._passes)

    def __iter__(self) -> Iterator[list[int]]:
        for number in self._passes:
            start = (number * self._world + self._rank) * self._size
            yield list(range(start, start + self._size))


def batches(examples: Examples, sampler: PositionSampler, workers: int, device: torch.device) -> Iterator[Batch]:
    """Yield the batches of a sampler on the device. Raises the error of an example that could not be made."""
    loader: Any = DataLoader(
        examples,
        batch_sampler=sampler,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        multiprocessing_context="spawn" if workers else None,
    )
    for batch in loader:
        if isinstance(batch, CloisonneError):
            raise batch
        yield {name: values.to(device, non_blocking=True) for name, values in batch.items()}


def _collate(examples: Sequence[Batch | CloisonneError]) -> Batch | CloisonneError:
    error = next((example for example in examples if isinstance(example, CloisonneError)), None)
    return error or default_collate(list(examples))


def as_pixels(rgb: np.ndarray) -> Tensor:
    """Convert uint8 [h, w, 3] to float32 [3, h, w] in -1..1."""
    return torch.from_numpy(rgb).permute(2, 0, 1).float().div_(127.5).sub_(1)
