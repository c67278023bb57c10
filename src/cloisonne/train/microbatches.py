"""Gradients of a step's batch, its parts worked on by threads beside each other.

On a CPU two threads with half a batch each train faster than one whose operators are split between two cores: small
layers gain little from a second core.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[int, float], tuple[Tensor, dict[str, float]]]
"""(step, progress in [0, 1)) -> loss and figures to print."""


class Parts(AbstractContextManager["Parts"]):
    """Threads for the parts of a batch; inside of the block each of them uses one core.

    A single part is worked on as if this were not here.
    """

    def __init__(self, losses: Sequence[Loss], parameters: Sequence[nn.Parameter]) -> None:
        self._losses, self._parameters = losses, parameters
        self._pool: ThreadPoolExecutor | None = None
        self._threads = torch.get_num_threads()

    def __enter__(self) -> "Parts":
        if len(self._losses) > 1:
            torch.set_num_threads(1)
            self._pool = ThreadPoolExecutor(len(self._losses))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            torch.set_num_threads(self._threads)

    @property
    def map(self) -> Callable[..., Any]:
        """``map``, shared by the threads."""
        return map if self._pool is None else self._pool.map

    def backward(self, step: int, progress: float) -> dict[str, float]:
        """Put the mean gradient of the parts into ``grad`` of the parameters; returns the means of their figures."""
        if self._pool is None:
            loss, figures = self._losses[0](step, progress)
            loss.backward()
            return figures | {"loss": loss.item()}
        parts = list(self._pool.map(lambda loss: self._part(loss, step, progress), self._losses))
        for k, p in enumerate(self._parameters):
            found = [gradients[k] for gradients, _ in parts if gradients[k] is not None]
            p.grad = torch.stack(found).sum(0).div_(len(parts)) if found else None
        return _means([figures for _, figures in parts])

    def _part(self, loss: Loss, step: int, progress: float) -> tuple[tuple[Any, ...], dict[str, float]]:
        # Not backward(), which would add to the same grad from several threads.
        value, figures = loss(step, progress)
        gradients = torch.autograd.grad(value, list(self._parameters), allow_unused=True)
        return gradients, figures | {"loss": value.item()}


def _means(parts: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over the parts that have it."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(values) / len(values) for name in names if (values := [p[name] for p in parts if name in p])}
