"""Examples of the coming steps, made by other processes while a GPU works on the present one."""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")


def processes(device: torch.device) -> int:
    """How many processes make examples: one a core beside a GPU; none where the cores train."""
    return 0 if device.type == "cpu" else os.cpu_count() or 1


class Ahead(Generic[T]):
    """``of(step)``, computed ahead by ``workers`` processes; by the caller if there are none.

    Steps may begin anywhere and jump, but only following one another they are ready in advance. ``of`` must be
    picklable. Processes are started at the first call.
    """

    def __init__(self, of: Callable[[int], T], workers: int) -> None:
        self._of, self._workers = of, workers
        self._items: Iterator[T] | None = None
        self._next = -1

    def __call__(self, step: int) -> T:
        if not self._workers:
            return self._of(step)
        if self._items is None or step != self._next:
            loader: DataLoader[T] = DataLoader(
                _Steps(self._of),
                batch_size=None,
                sampler=itertools.count(step),
                num_workers=self._workers,
                collate_fn=_same,
                multiprocessing_context="forkserver",
                prefetch_factor=4,
            )
            self._items = iter(loader)
        self._next = step + 1
        return next(self._items)


class _Steps(Dataset[T]):
    def __init__(self, of: Callable[[int], T]) -> None:
        self._of = of

    def __getitem__(self, step: int) -> T:
        return self._of(step)


def _same(example: T) -> T:
    return example
