"""LoRA by region (arXiv 2106.09685): one forward, at pixel p with ``W + sum_r w_r(p) sum_k scale_k B_k A_k``.

Where a layer reads pixels, what ``B A`` adds is multiplied by the region's mask. Where it reads text (keys and values
of cross-attention), the pixels of the mask attend to the text with the keys and values of the changed weights: the text
is split into one with the mask and one with its complement. With one region over all of the canvas both are the
fused weights. Letters as in ``core.plan``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LoraScales: TypeAlias = tuple[tuple[str, float], ...]
"""Names of LoRAs that the network holds, each with its scale."""

ROUNDING = 1e-6
"""A share that is no more than this is none."""


@dataclass(frozen=True, eq=False, repr=False)
class RegionLora:
    """LoRAs and where they count: where is [H, W] in [0, 1], or None for 1 everywhere. Those of one branch add up to
    at most 1 at every pixel."""

    loras: LoraScales
    mask: Float[Tensor, "H W"] | None = None

    def __repr__(self) -> str:
        place = "everywhere" if self.mask is None else f"on {float(self.mask.mean()):.0%}"
        return f"{' and '.join(f'LoRA {name} at {scale:g}' for name, scale in self.loras)} {place}"


def split(
    where: Float[Tensor, "H W"] | None, adapted: Sequence[RegionLora]
) -> list[tuple[Float[Tensor, "H W"] | None, LoraScales]]:
    """Masks of a text with mask ``where``, and the LoRAs within each; parts without an area are left out."""
    if not adapted:
        return [(where, ())]
    for piece in adapted:
        if piece.mask is None:
            return [(where, piece.loras)]
    masks: dict[LoraScales, Tensor] = {}
    for piece in adapted:
        assert piece.mask is not None, "the loop above has returned"
        masks[piece.loras] = masks[piece.loras] + piece.mask if piece.loras in masks else piece.mask
    left = 1 - torch.stack(list(masks.values())).sum(0)
    masks[()] = torch.where(left > ROUNDING, left, torch.zeros_like(left))
    parts = [(mask if where is None else where * mask, loras) for loras, mask in sorted(masks.items())]
    present: list[tuple[Tensor | None, LoraScales]] = [(mask, loras) for mask, loras in parts if bool((mask > 0).any())]
    return present or [(where, ())]


class BatchLoras:
    """What counts where in a batch of R rows, by name. An instance belongs to one network and one run."""

    def __init__(self, rows: Sequence[Sequence[RegionLora]], like: Tensor) -> None:
        """like: any tensor of the batch's device."""
        self._rows = tuple(tuple(adapted) for adapted in rows)
        self._like = like
        self._amounts: dict[tuple[str, tuple[int, int]], Tensor] = {}
        self.names = frozenset(name for adapted in rows for piece in adapted for name, _ in piece.loras)

    def amount(self, name: str, grid: tuple[int, int]) -> Float[Tensor, "R h w"]:
        """[R, h, w]: masks times scales, averaged over the area of each pixel of the grid."""
        if (name, grid) not in self._amounts:
            amount = torch.zeros(len(self._rows), *grid, device=self._like.device)
            for own, adapted in zip(amount, self._rows, strict=True):
                for piece in adapted:
                    scale = dict(piece.loras).get(name, 0.0)
                    own += scale if piece.mask is None else scale * _area(piece.mask, grid)
            self._amounts[name, grid] = amount
        return self._amounts[name, grid]


def _area(mask: Float[Tensor, "H W"], grid: tuple[int, int]) -> Float[Tensor, "h w"]:
    return F.adaptive_avg_pool2d(mask[None].float(), grid)[0]
