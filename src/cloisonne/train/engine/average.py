"""Exponential moving average (EMA) of the trained parameters."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """EMA of the parameters. The decay after step k is ``min(decay, (1 + k) / (10 + k))``."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self.values: dict[str, Tensor] = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average after step ``step``, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), list(self._parameters.values()), 1 - decay)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Set the parameters to the average."""
        for name, p in self._parameters.items():
            p.copy_(self.values[name])
