"""Residuals of control networks, computed at every step and added to the base network's: ControlNet, arXiv 2302.05543.

Letters as in ``core.plan``; h w are pixels of the canvas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.step import Step


@dataclass(frozen=True)
class BlockPoint:
    """Residuals that enter a transformer behind its blocks.

    of_block: for each block of the base network, the levels that are added to its image tokens, by their number. A
    level of pixels [D, h, w] is of the image tokens, one of tokens [D, L] of those that follow the image.
    """

    of_block: tuple[tuple[int, ...], ...]


InjectionPoint: TypeAlias = str | BlockPoint
"""Where residuals enter a network: the name of a place in a UNet, or the blocks of a transformer."""


@runtime_checkable
class ResidualNet(Protocol):
    """What ``models`` provides of a ControlNet."""

    @property
    def point(self) -> InjectionPoint:
        """Where its residuals enter the base network: a key of ``Conditioning.residuals``."""
        ...

    def __call__(
        self,
        z: Float[Tensor, "R C H W"],
        step: Step,
        texts: Sequence[Float[Tensor, "_ D"]],
        image: Float[Tensor, "R K h w"],
        pooled: Float[Tensor, "R P"] | None,
        micro: Mapping[str, Tensor],
        weights: Float[Tensor, "R H W"],
        /,
    ) -> tuple[Tensor, ...]:
        """Residuals, float32, of each level: [R, C_i, H_i, W_i] of pixels or image tokens, or [R, D, L] of others.

        z: [R, C, H, W]. texts: [N, D] of each row. image: [R, K, h, w], as its control images are. pooled [R, P] and
        micro: as in a ``Call``. weights: by which the residuals are multiplied afterwards, for networks that also take
        them in their own layers.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ControlNetRequest:
    """A ControlNet's control image and where its residuals count.

    image: [3, h, w] in [0, 1], the size of the window in pixels, or what else the network takes: [K, h, w]. weight:
    [H, W] >= 0, the mask times the strength. The text is ``Conditioning.summary`` of the branch.
    """

    net: ResidualNet
    image: Float[Tensor, "K h w"]
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
    micro: Mapping[str, Tensor],
) -> list[tuple[Tensor, ...]]:
    """The masked residuals, [C_i, H_i, W_i] or [D, L], of each row of a ControlNet's batch.

    z, pooled, micro: of the base network's batch. texts: [N, D] by its rows.
    """
    rows = [one.row for one in batch]
    levels = batch[0].request.net(
        z[rows],
        step,
        [texts[row] for row in rows],
        torch.stack([one.request.image for one in batch]),
        None if pooled is None else pooled[rows],
        {name: value[rows] for name, value in micro.items()},
        torch.stack([one.request.weight for one in batch]),
    )
    return [tuple(masked(level[line], one.request.weight) for level in levels) for line, one in enumerate(batch)]


def masked(features: Tensor, mask: Float[Tensor, "H W"]) -> Tensor:
    """Features [C, h, w] times the mask [H, W], averaged over the area of each of their pixels (a mask that is
    smaller than the features is read between its pixels).

    Features [C, L] of tokens that have no place in the image are times the least weight of the mask, so that a mask of
    a part changes nothing of them.
    """
    if features.ndim == 2:
        return features * mask.min()
    height, width = features.shape[-2:]
    if height > mask.shape[0] or width > mask.shape[1]:
        own = F.interpolate(mask[None, None].float(), (height, width), mode="bilinear", align_corners=False)[0]
    else:
        own = F.adaptive_avg_pool2d(mask[None].float(), (height, width))
    return features * own.to(torch.float32)
