"""The number format in which products of matrices are fastest on this machine, found by a probe of milliseconds.

A processor without bfloat16 instructions multiplies bfloat16 some sixty times more slowly than float32.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch

SIDE = 384
"""Of the probe's square matrices."""
SLOW = 10.0
"""GFLOP/s below which a format is called slow."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Rates in GFLOP/s of products in both formats, and the faster one."""

    float32: float
    bfloat16: float

    @property
    def dtype(self) -> torch.dtype:
        """The faster format; float32 where both are equal."""
        return torch.bfloat16 if self.bfloat16 > self.float32 else torch.float32

    def __str__(self) -> str:
        chosen = str(self.dtype).removeprefix("torch.")
        text = (
            f"Products: float32 {self.float32:.1f}, bfloat16 {self.bfloat16:.1f} GFLOP/s a thread; training in {chosen}"
        )
        slow = max(self.float32, self.bfloat16) < SLOW
        return (
            f"{text}. Both are slow: training will take many times as long as docs/training.md says." if slow else text
        )


@cache
def precision(device: str) -> Precision:
    """The probe of a device, "cpu" or "cuda", once a process."""
    return Precision(float32=_rate(device, torch.float32), bfloat16=_rate(device, torch.bfloat16))


def autocast(device: torch.device, *, cache_enabled: bool = True) -> AbstractContextManager[object]:
    """Mixed precision where bfloat16 is the faster format; otherwise nothing changes."""
    if precision(device.type).dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=cache_enabled)


def _rate(device: str, dtype: torch.dtype) -> float:
    """GFLOP/s of the fastest of three products, the first of them after one that warms up; on one thread of a CPU."""
    a = torch.full((SIDE, SIDE), 0.5, dtype=dtype, device=device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.mm(a, a)
        return 2 * SIDE**3 / min(_seconds(a) for _ in range(3)) / 1e9
    finally:
        torch.set_num_threads(threads)


def _seconds(a: torch.Tensor) -> float:
    began = time.perf_counter()
    torch.mm(a, a)
    if a.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began
