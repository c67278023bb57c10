"""Examples of the coming steps, made by other processes while a GPU works on the present one."""

import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")


def processes(device: torch.device) -> int:
    """How many processes make examples: one a core beside a GPU; none where the cores train."""
    return 0 if device.type == "cpu" else os.cpu_count() or 1


class Prefetch(Generic[T]):
    """``of(*how, step)``, computed ahead by ``workers`` processes; by the caller if there are none.

    Steps may begin anywhere and jump, but only following one another, and asked for in the same way, they are ready in
    advance. ``of`` and ``how`` must be picklable. Processes are started at the first call, and others in their place
    where steps jump or ``how`` changes.
    """

    def __init__(self, of: Callable[..., T], workers: int) -> None:
        self._of, self._workers = of, workers
        self._items: Iterator[T] | None = None
        self._next: tuple[Any, ...] = ()

    def __call__(self, step: int, *how: Any) -> T:
        if not self._workers:
            return self._of(*how, step)
        if self._items is None or (step, *how) != self._next:
            self._items = None  # ends the processes that made what nobody asks for now
            loader: DataLoader[T] = DataLoader(
                _Steps(partial(self._of, *how)),
                batch_size=None,
                sampler=itertools.count(step),
                num_workers=self._workers,
                collate_fn=_same,
                multiprocessing_context="forkserver",
                prefetch_factor=4,
            )
            self._items = iter(loader)
        self._next = step + 1, *how
        return next(self._items)


class _Steps(Dataset[T]):
    def __init__(self, of: Callable[[int], T]) -> None:
        self._of = of

    def __getitem__(self, step: int) -> T:
        return self._of(step)


def _same(example: T) -> T:
    return example
