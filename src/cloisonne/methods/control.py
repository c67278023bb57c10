"""Localized control: a map is obeyed inside of a region's mask only.

T2I-Adapter (arXiv 2302.08453) with masked features (Domingo-Gregorio and Ruiz-Hidalgo, arXiv 2602.01991, section 3):
``F_k <- F_k * resize(M, size_k) * strength``. The adapter runs once a picture, not once a step. Features of several
controls add up. The mask is resized by area, so that it stays soft, to each level's own size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.plan import Conditioning
from cloisonne.methods.context import Context
from cloisonne.methods.layout import Part


def control_conditioning(parts: Sequence[Part], ctx: Context) -> Conditioning:
    """What all branches of the canvas are told of the regions' controls."""
    told = Conditioning()
    for part in parts:
        control = part.region.control
        if control is None or control.strength == 0:
            continue
        levels = tuple(masked(level, part.mask) * control.strength for level in ctx.features(part.region))
        told += Conditioning(intrablock=levels)
    return told


def masked(features: Tensor, mask: Tensor) -> Tensor:
    """Features [C, h, w] times the mask [H, W], averaged over the area of each of their pixels (a mask that is
    smaller than the features is read between its pixels)."""
    height, width = features.shape[-2:]
    if height > mask.shape[0] or width > mask.shape[1]:
        own = F.interpolate(mask[None, None].float(), (height, width), mode="bilinear", align_corners=False)[0]
    else:
        own = F.adaptive_avg_pool2d(mask[None].float(), (height, width))
    return features * own.to(torch.float32)
