"""How fast a device multiplies matrices of a dtype, measured in milliseconds.

A CPU without instructions for a dtype multiplies it about sixty times more slowly than float32.
"""

import time
from functools import cache

import torch

SIDE = 384
"""Side of the square matrices that are multiplied."""


@cache
def product_rate(device: str, dtype: torch.dtype) -> float:
    """GFLOP/s of the fastest of three products after a warm-up, once per process; a CPU uses one thread."""
    a = torch.full((SIDE, SIDE), 0.5, dtype=dtype, device=device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.mm(a, a)
        return 2 * SIDE**3 / min(_seconds(a) for _ in range(3)) / 1e9
    finally:
        torch.set_num_threads(threads)


def _seconds(a: torch.Tensor) -> float:
    started = time.perf_counter()
    torch.mm(a, a)
    if a.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
