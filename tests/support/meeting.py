"""Threads that are provably inside a forward of a denoiser at the same time."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook


def in_denoiser(module: nn.Module) -> bool:
    """A block of every UNet and ControlNet, also of those that ``explain`` measures."""
    return isinstance(module, CrossAttnDownBlock2D)


class Meeting:
    """Threads wait for one another before the first ``calls`` forwards of some modules in each of them.

    A thread that has finished is not waited for, nor one that is kept elsewhere for two seconds. most: the largest
    number of threads that were inside of such a forward at once.
    """

    def __init__(self, where: Callable[[nn.Module], bool] = in_denoiser, *, calls: int = 3) -> None:
        self.most = 0
        self._where = where
        self._calls = calls
        self._met: Counter[int] = Counter()
        self._condition = threading.Condition()
        self._expected = self._waiting = self._round = 0

    def of(self, works: Sequence[Callable[[], Any]]) -> list[Any]:
        """What pieces of work give side by side, one in each thread; exceptions are results, too."""
        self._expected = len(works)
        with ExitStack() as hooks, ThreadPoolExecutor(len(works)) as threads:
            hooks.callback(register_module_forward_pre_hook(self._meet).remove)
            futures = [threads.submit(self._done, work) for work in works]
            return [future.exception() or future.result() for future in futures]

    def _done(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        finally:
            with self._condition:
                if self._met[threading.get_ident()] < self._calls:
                    self._leave()

    def _leave(self) -> None:
        self._expected -= 1
        self._met[threading.get_ident()] = self._calls
        if self._waiting >= self._expected:
            self._release()

    def _release(self) -> None:
        self._round += 1
        self._waiting = 0
        self._condition.notify_all()

    def _meet(self, module: nn.Module, *_: Any) -> None:
        if not self._where(module):
            return
        with self._condition:
            if self._met[threading.get_ident()] >= self._calls:
                return
            self._waiting += 1
            self.most = max(self.most, self._waiting)
            current = self._round
            if self._waiting >= self._expected:
                self._release()
            elif not self._condition.wait_for(lambda: self._round > current, timeout=2):
                self._waiting -= 1
            self._met[threading.get_ident()] += 1
            if self._met[threading.get_ident()] == self._calls:
                self._leave()
