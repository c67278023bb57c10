"""Networks that are asked beside the main one at every step, whose residuals join it: ControlNet, arXiv 2302.05543.

Letters as in ``core.plan``; h w are pixels of the canvas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.step import Step


class ResidualNet(Protocol):
    """What ``models`` provides of a ControlNet."""

    def __call__(
        self, z: Tensor, step: Step, heard: Tensor, shown: Tensor, pooled: Tensor | None, size: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Residuals [R, C_i, H_i, W_i], float32, of the down blocks and then of the middle one.

        z: [R, C, H, W]. heard: [R, N, D] text. shown: [R, 3, h, w] in [0, 1]. pooled, size: as in a ``Call``.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ControlNetRequest:
    """One thing that is asked of a network beside: what it is shown and hears, and where its residuals count.

    shown: [3, h, w] in [0, 1], the size of the window in pixels. heard: [N, D], one sequence for the whole window.
    amount: [H, W] >= 0, the mask times the strength.
    """

    net: ResidualNet
    shown: Tensor
    heard: Tensor
    amount: Tensor


@dataclass(frozen=True, eq=False)
class ControlNetRow:
    """One line of a batch for a network beside. row: whose line of the main batch it belongs to."""

    row: int
    beside: ControlNetRequest


def control_batches(told: Sequence[Sequence[ControlNetRequest]]) -> list[list[ControlNetRow]]:
    """The batches of one step: all that is asked of one network together; told: by row of the main batch."""
    batches: dict[int, list[ControlNetRow]] = {}
    for row, asked in enumerate(told):
        for beside in asked:
            batches.setdefault(id(beside.net), []).append(ControlNetRow(row, beside))
    return list(batches.values())


def residuals_of(
    asks: Sequence[ControlNetRow], z: Tensor, step: Step, pooled: Tensor | None, size: Tensor | None
) -> list[tuple[Tensor, ...]]:
    """For each line of a batch, its residuals [C_i, H_i, W_i] where they count; z, pooled, size: of the main batch."""
    rows = [ask.row for ask in asks]
    levels = asks[0].beside.net(
        z[rows],
        step,
        torch.stack([ask.beside.heard for ask in asks]),
        torch.stack([ask.beside.shown for ask in asks]),
        None if pooled is None else pooled[rows],
        None if size is None else size[rows],
    )
    return [tuple(masked(level[line], ask.beside.amount) for level in levels) for line, ask in enumerate(asks)]


def masked(features: Tensor, mask: Tensor) -> Tensor:
    """Features [C, h, w] times the mask [H, W], averaged over the area of each of their pixels (a mask that is
    smaller than the features is read between its pixels)."""
    height, width = features.shape[-2:]
    if height > mask.shape[0] or width > mask.shape[1]:
        own = F.interpolate(mask[None, None].float(), (height, width), mode="bilinear", align_corners=False)[0]
    else:
        own = F.adaptive_avg_pool2d(mask[None].float(), (height, width))
    return features * own.to(torch.float32)
