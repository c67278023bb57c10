"""Muon for the inner weight matrices and AdamW for the rest, as one optimiser with a flat tensor state."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from cloisonne.train.muon import Muon
from cloisonne.train.precision import precision

GROUPS = 8
"""Number of Muon optimisers that the matrices are split into, so that threads can run them in parallel. The number is
fixed, so a checkpoint does not depend on the machine."""


class Mixed:
    """Muon (updates scaled to AdamW's size) for weights of two or more dimensions, AdamW for the others.

    Muon treats a convolution weight [out, in, k, k] as a matrix [out, in·k·k], a view of the same storage.

    Args:
        named: Parameters with their names.
        lr: Learning rate.
        weight_decay: Weight decay of Muon; AdamW uses 0.
        outer: Substrings of the names of first and last layers. AdamW trains these and the embedding tables.
        muon: False trains all parameters with AdamW.
        dtype: Dtype of Muon's matrix products; None chooses the faster one.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        weight_decay: float = 0.01,
        outer: tuple[str, ...] = (),
        muon: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        inner: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, p in named:
            matrix = muon and p.ndim >= 2 and "embed" not in name and not any(word in name for word in outer)
            (inner if matrix else others).append(p)
        self._whole = inner
        self._flat = [nn.Parameter(p.detach().view(p.shape[0], -1)) for p in inner]
        self._parts: list[torch.optim.Optimizer] = []
        for group in _groups(self._flat):
            self._parts.append(
                Muon(group, lr=lr, weight_decay=weight_decay, dtype=dtype or precision(group[0].device.type).dtype)
            )
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.99), weight_decay=0.0, foreach=True))
        self._parameters = inner + others
        self._lr = lr

    def step(self, scale: float, clip: float = 1.0, run: Callable[..., Iterable[None]] = map) -> float:
        """Update once at ``scale`` times the learning rate and clear the gradients.

        Args:
            scale: Factor of the learning rate.
            clip: Maximum gradient norm.
            run: ``map``, or the ``map`` of a thread pool to update the matrices in parallel.

        Returns:
            The gradient norm before clipping.
        """
        norm = float(nn.utils.clip_grad_norm_(self._parameters, clip))
        for whole, flat in zip(self._whole, self._flat, strict=True):
            flat.grad = None if whole.grad is None else whole.grad.reshape(flat.shape)
        list(run(lambda part: _step(part, self._lr * scale), self._parts))
        for p in self._parameters:
            p.grad = None
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """The optimiser state as named tensors."""
        out = {}
        for k, part in enumerate(self._parts):
            for index, state in part.state_dict()["state"].items():
                for name, value in state.items():
                    out[f"{k}.{index}.{name}"] = value if isinstance(value, Tensor) else torch.tensor(value)
        return out

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore the state that ``tensors()`` returned."""
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self._parts]
        for key, value in tensors.items():
            k, index, name = key.split(".", 2)
            states[int(k)].setdefault(int(index), {})[name] = value
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})


def _groups(matrices: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Split matrices into up to ``GROUPS`` groups of about equal work (rows x columns x shorter side)."""
    groups: list[list[nn.Parameter]] = [[] for _ in range(min(GROUPS, len(matrices)))]
    work = [0] * len(groups)
    for matrix in sorted(matrices, key=lambda m: -m.numel() * min(m.shape)):
        least = work.index(min(work))
        groups[least].append(matrix)
        work[least] += matrix.numel() * min(matrix.shape)
    return groups


def _step(part: torch.optim.Optimizer, lr: float) -> None:
    for group in part.param_groups:
        group["lr"] = lr
    part.step()
    part.zero_grad(set_to_none=True)
