"""The dtype with the fastest matrix products on this machine, measured in milliseconds."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch

from cloisonne.product_rates import product_rate

SLOW = 10.0
"""GFLOP/s below which a dtype is reported as slow."""


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Matrix product rates of both dtypes in GFLOP/s."""

    float32: float
    bfloat16: float

    @property
    def dtype(self) -> torch.dtype:
        """The faster dtype; float32 if both are equal."""
        return torch.bfloat16 if self.bfloat16 > self.float32 else torch.float32

    def __str__(self) -> str:
        chosen = str(self.dtype).removeprefix("torch.")
        text = (
            f"Matrix products: float32 {self.float32:.1f}, bfloat16 {self.bfloat16:.1f} GFLOP/s per thread; "
            f"training in {chosen}"
        )
        slow = max(self.float32, self.bfloat16) < SLOW
        return f"{text}. Both are slow: training will take many times as long as in docs/training.md." if slow else text


@cache
def precision(device: str) -> Precision:
    """Measure a device type, "cpu" or "cuda", once per process."""
    return Precision(float32=product_rate(device, torch.float32), bfloat16=product_rate(device, torch.bfloat16))


def autocast(device: torch.device, *, cache_enabled: bool = True) -> AbstractContextManager[object]:
    """Autocast to bfloat16 if it is the faster dtype; otherwise a null context."""
    if precision(device.type).dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=cache_enabled)
