"""Muon with a choice of dtype for the orthogonalisation; ``torch.optim.Muon`` always uses bfloat16.

Keller Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024), with updates scaled to AdamW's size
(arXiv 2502.16982, section 2.2).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for matrices [rows, columns]."""

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group["lr"], group["weight_decay"])

    def _update(self, p: Tensor, grad: Tensor, lr: float, weight_decay: float) -> None:
        state = self.state[p]
        average = state.setdefault("momentum_buffer", torch.zeros_like(grad))
        average.lerp_(grad, 1 - MOMENTUM)
        update = orthogonalised(grad.lerp(average, MOMENTUM), self._dtype)
        p.mul_(1 - lr * weight_decay)
        p.add_(update, alpha=-lr * 0.2 * max(p.shape) ** 0.5)


def orthogonalised(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Push the singular values of a matrix towards 1 by five Newton-Schulz iterations; singular vectors stay."""
    a, b, c = COEFFICIENTS
    wide = matrix.to(dtype, copy=True)
    tall = wide.shape[0] > wide.shape[1]
    wide = wide.T if tall else wide
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if tall else wide
