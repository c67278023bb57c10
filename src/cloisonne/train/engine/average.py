"""Exponential moving average (EMA) of the trained parameters."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """EMA of the parameters. The decay after step k is ``min(decay, (1 + k) / (10 + k))``."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self.values: dict[str, Tensor] = {name: p.detach().clone() for name, p in parameters.items()}

    def update(self, step: int) -> None:
        """Update the average after step ``step``, counted from 0."""
        update = get_ema_multi_avg_fn(min(self._decay, (1 + step) / (10 + step)))
        update(list(self.values.values()), list(self._parameters.values()), None)

    @torch.no_grad()
    def copy_to_parameters(self) -> None:
        """Set the parameters to the average."""
        for name, p in self._parameters.items():
            p.copy_(self.values[name])
