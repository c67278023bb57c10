"""Gradients of a batch, computed per microbatch in parallel threads.

On a CPU, two threads with half a batch each train faster than one thread whose operators use two cores: small layers
gain little from a second core.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[int, float], tuple[Tensor, dict[str, float]]]
"""(step, progress in [0, 1)) -> loss and metrics to log."""


def divisor(batch: int, most: int) -> int:
    """The largest divisor of ``batch`` that is at most ``most``."""
    return next(n for n in range(min(batch, most), 0, -1) if batch % n == 0)


class Microbatches(AbstractContextManager["Microbatches"]):
    """A pool of threads, one per microbatch; inside the ``with`` block each thread uses one core.

    With a single loss no thread is started and torch's thread count stays.
    """

    def __init__(self, losses: Sequence[Loss], parameters: Sequence[nn.Parameter]) -> None:
        self._losses, self._parameters = losses, parameters
        self._pool: ThreadPoolExecutor | None = None
        self._threads = torch.get_num_threads()

    def __enter__(self) -> "Microbatches":
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
        """``map`` over the thread pool; the built-in ``map`` if there is no pool."""
        return map if self._pool is None else self._pool.map

    def backward(self, step: int, progress: float) -> dict[str, float]:
        """Set ``grad`` of the parameters to the mean over the microbatches; return the mean metrics."""
        if self._pool is None:
            loss, metrics = self._losses[0](step, progress)
            loss.backward()
            return metrics | {"loss": loss.item()}
        results = list(self._pool.map(lambda loss: self._gradients(loss, step, progress), self._losses))
        for k, p in enumerate(self._parameters):
            found = [gradients[k] for gradients, _ in results if gradients[k] is not None]
            p.grad = torch.stack(found).sum(0).div_(len(results)) if found else None
        return _means([metrics for _, metrics in results])

    def _gradients(self, loss: Loss, step: int, progress: float) -> tuple[tuple[Any, ...], dict[str, float]]:
        # backward() would accumulate into the same grad from several threads.
        value, metrics = loss(step, progress)
        gradients = torch.autograd.grad(value, list(self._parameters), allow_unused=True)
        return gradients, metrics | {"loss": value.item()}


def _means(metrics: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over the microbatches that have it."""
    names = dict.fromkeys(name for own in metrics for name in own)
    return {name: sum(values) / len(values) for name in names if (values := [m[name] for m in metrics if name in m])}
