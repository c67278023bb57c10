"""Prefetch the examples of the next steps in worker processes while a GPU computes the current step."""

import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")


def processes(device: torch.device) -> int:
    """Number of worker processes: one per core with a GPU; none if the CPU trains."""
    return 0 if device.type == "cpu" else os.cpu_count() or 1


class Prefetch(Generic[T]):
    """Computes ``make(*arguments, step)`` ahead in ``workers`` processes, or in the caller if there are none.

    Steps may start anywhere and jump, but only consecutive steps with the same arguments are ready in advance. ``make``
    and ``arguments`` must be picklable. Workers start at the first call and restart if the step jumps or the arguments
    change.
    """

    def __init__(self, make: Callable[..., T], workers: int) -> None:
        self._make, self._workers = make, workers
        self._items: Iterator[T] | None = None
        self._next: tuple[Any, ...] = ()

    def __call__(self, step: int, *arguments: Any) -> T:
        if not self._workers:
            return self._make(*arguments, step)
        if self._items is None or (step, *arguments) != self._next:
            self._items = None  # ends the workers of the previous sequence of steps
            loader: DataLoader[T] = DataLoader(
                _Steps(partial(self._make, *arguments)),
                batch_size=None,
                sampler=itertools.count(step),
                num_workers=self._workers,
                collate_fn=_identity,
                multiprocessing_context="forkserver",
                prefetch_factor=4,
            )
            self._items = iter(loader)
        self._next = step + 1, *arguments
        return next(self._items)


class _Steps(Dataset[T]):
    def __init__(self, make: Callable[[int], T]) -> None:
        self._make = make

    def __getitem__(self, step: int) -> T:
        return self._make(step)


def _identity(example: T) -> T:
    return example
