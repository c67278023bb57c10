"""The cost of one forward pass of any network, counted on the meta device: nothing is computed."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass of one batch row.

    flops: floating-point operations. numbers: how many are in memory at once, estimated as twice the inputs and outputs
    of the largest layer.
    """

    flops: int
    numbers: int


@torch.no_grad()
def count_cost(network: nn.Module, *inputs: Tensor, **given: Any) -> Cost:
    """The cost of ``network(*inputs, **given)``; network and inputs are on the meta device."""
    largest = 0

    def measure(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal largest
        held = [value.numel() for value in (*args, output) if isinstance(value, Tensor)]
        largest = max(largest, sum(held))

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(measure)
    counter = FlopCounterMode(display=False)
    # Its own tracker has hooks on the modules of all threads.
    counter.mod_tracker = _NoTracker()  # type: ignore[assignment]
    with counter:
        network(*inputs, **given)
    return Cost(flops=counter.get_total_flops(), numbers=2 * largest)


class _NoTracker:
    """Stands for the tracker of a flop counter; counts are of the whole network."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        return None

    def __exit__(self, *args: object) -> None:
        return None
