"""Residuals of control networks, computed at every step and added to the base network's: ControlNet, arXiv 2302.05543.

Letters as in ``core.plan``; h w are pixels of the canvas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.step import Step


@runtime_checkable
class ResidualNet(Protocol):
    """What ``models`` provides of a ControlNet."""

    @property
    def point(self) -> str:
        """Where its residuals enter the base network: a key of ``Conditioning.residuals``."""
        ...

    def __call__(
        self,
        z: Float[Tensor, "R C H W"],
        step: Step,
        text: Float[Tensor, "R N D"],
        image: Float[Tensor, "R 3 h w"],
        pooled: Float[Tensor, "R P"] | None,
        size: Float[Tensor, "R 6"] | None,
        /,
    ) -> tuple[Float[Tensor, "R _ _ _"], ...]:
        """Residuals [R, C_i, H_i, W_i], float32, of the down blocks and then of the middle one.

        z: [R, C, H, W]. text: [R, N, D]. image: [R, 3, h, w] in [0, 1]. pooled [R, P], size [R, 6]: as in a ``Call``.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ControlNetRequest:
    """A ControlNet's control image and where its residuals count.

    image: [3, h, w] in [0, 1], the size of the window in pixels. weight: [H, W] >= 0, the mask times the strength. The
    text is ``Conditioning.summary`` of the branch.
    """

    net: ResidualNet
    image: Float[Tensor, "3 h w"]
    weight: Float[Tensor, "H W"]


@dataclass(frozen=True, eq=False)
class ControlNetRow:
    """One batch row of a ControlNet. row: the row of the base network's batch that its residuals are added to."""

    row: int
    request: ControlNetRequest


def control_batches(requests: Sequence[Sequence[ControlNetRequest]]) -> list[list[ControlNetRow]]:
    """The batches of one step, one a ControlNet; requests: of each row of the base network's batch."""
    batches: dict[int, list[ControlNetRow]] = {}
    for row, own in enumerate(requests):
        for request in own:
            batches.setdefault(id(request.net), []).append(ControlNetRow(row, request))
    return list(batches.values())


def residuals_of(
    batch: Sequence[ControlNetRow],
    z: Float[Tensor, "R C H W"],
    step: Step,
    texts: Mapping[int, Float[Tensor, "N D"]],
    pooled: Float[Tensor, "R P"] | None,
    size: Float[Tensor, "R 6"] | None,
) -> list[tuple[Float[Tensor, "_ _ _"], ...]]:
    """The masked residuals [C_i, H_i, W_i] of each row of a ControlNet's batch.

    z, pooled, size: of the base network's batch. texts: [N, D] by its rows.
    """
    rows = [one.row for one in batch]
    levels = batch[0].request.net(
        z[rows],
        step,
        torch.stack([texts[row] for row in rows]),
        torch.stack([one.request.image for one in batch]),
        None if pooled is None else pooled[rows],
        None if size is None else size[rows],
    )
    return [tuple(masked(level[line], one.request.weight) for level in levels) for line, one in enumerate(batch)]


def masked(features: Float[Tensor, "C h w"], mask: Float[Tensor, "H W"]) -> Float[Tensor, "C h w"]:
    """Features [C, h, w] times the mask [H, W], averaged over the area of each of their pixels (a mask that is
    smaller than the features is read between its pixels)."""
    height, width = features.shape[-2:]
    if height > mask.shape[0] or width > mask.shape[1]:
        own = F.interpolate(mask[None, None].float(), (height, width), mode="bilinear", align_corners=False)[0]
    else:
        own = F.adaptive_avg_pool2d(mask[None].float(), (height, width))
    return features * own.to(torch.float32)
