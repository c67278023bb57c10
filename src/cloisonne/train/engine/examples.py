"""Training examples by position: everything in example ``p`` follows from the seed and ``p`` alone.

So neither workers nor processes nor a resumed run change what is seen, and no generator's state is kept.
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

ORDER, SUBSET, WORDS, LOOK, NOISE = range(5)
"""Streams of randomness; a change in one leaves the others as they are."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """size: side of a picture in pixels. latent: C, H, W of its latents. levels: T, of the noise schedule."""

    size: int
    latent: tuple[int, int, int]
    levels: int


class Examples(Dataset[Any]):
    """Examples of ``count`` rows. Every epoch shows all of them once, in an order of its own; epochs follow each other
    without a gap."""

    def __init__(self, count: int, settings: Settings) -> None:
        self.seed = settings.seed
        kept = min(count, settings.max_train_samples or count)
        self._subset = self.rng(0, SUBSET).permutation(count)[:kept]

    def __len__(self) -> int:
        """Pictures of an epoch."""
        return len(self._subset)

    def __getitem__(self, position: int) -> Batch | CloisonneError:
        """An error is returned and not raised: a worker's exception would come out as its traceback."""
        try:
            return self.example(position)
        except CloisonneError as error:
            return error

    @abstractmethod
    def example(self, position: int) -> Batch:
        """The tensors of one example."""

    def index(self, position: int) -> int:
        """Which row is shown at a position."""
        epoch, place = divmod(position, len(self))
        return int(self._subset[_permutation(self.seed, epoch, len(self))[place]])

    def rng(self, position: int, stream: int) -> np.random.Generator:
        """What decides about one side of an example."""
        return _rng(self.seed, position, stream)

    def noise_generator(self, position: int) -> torch.Generator:
        """What an example's level and noises are drawn from."""
        return torch.Generator().manual_seed(int(self.rng(position, NOISE).integers(2**63)))


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return _rng(seed, epoch, ORDER).permutation(count)


def _rng(seed: int, position: int, stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, position, stream, 20264])


class Share:
    """The positions of one process, a batch at a time, from step ``first`` to before ``last``.

    A step's positions are consecutive; the processes share out each of its passes in the order of their ranks.
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


def batches(examples: Examples, share: Share, workers: int, device: torch.device) -> Iterator[Batch]:
    """The batches of a share, on the device; raises what an example could not be made for."""
    loader: Any = DataLoader(
        examples,
        batch_sampler=share,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_collated,
        pin_memory=device.type == "cuda",
        multiprocessing_context="spawn" if workers else None,
    )
    for batch in loader:
        if isinstance(batch, CloisonneError):
            raise batch
        yield {name: values.to(device, non_blocking=True) for name, values in batch.items()}


def _collated(examples: Sequence[Batch | CloisonneError]) -> Batch | CloisonneError:
    error = next((example for example in examples if isinstance(example, CloisonneError)), None)
    return error or default_collate(list(examples))


def as_pixels(rgb: np.ndarray) -> Tensor:
    """uint8 [h, w, 3] as float32 [3, h, w] in -1..1."""
    return torch.from_numpy(rgb).permute(2, 0, 1).float().div_(127.5).sub_(1)
