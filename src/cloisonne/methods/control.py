"""Localized control: a map is obeyed inside of a region's mask only.

T2I-Adapter (arXiv 2302.08453) with masked features (Domingo-Gregorio and Ruiz-Hidalgo, arXiv 2602.01991, section 3):
``F_k <- F_k * resize(M, size_k) * strength``; the adapter runs once a picture. ControlNet (arXiv 2302.05543) runs at
every step, and its residuals are masked in the same way. Features and residuals of several controls add up, where there
is one after CoAdapter's fuser. The mask is resized by area, so that it stays soft, to each level's own size. A weight
other than 1 counts as it does for words: M is multiplied by the share it gives the region over that of equal weights.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cloisonne.core.control_residuals import ControlNetRequest, masked
from cloisonne.core.plan import Conditioning
from cloisonne.methods.context import Context
from cloisonne.methods.layout import Part

__all__ = ["masked", "with_controls"]


def with_controls(parts: Sequence[Part], ctx: Context) -> Context:
    """The context in which all branches of the canvas are also told of the regions' controls."""
    adapted: list[tuple[Part, str, tuple[Tensor, ...]]] = []
    beside = []
    for part in parts:
        control = part.region.control
        if control is None or control.strength == 0 or not bool((part.mask > 0).any()):
            continue
        features = ctx.features(part.region)
        net = ctx.model.controlnets.get(control.kind)
        if net is None:
            adapted.append((part, control.kind, tuple(level * control.strength for level in features)))
        else:
            silence = torch.zeros(0, ctx.model.spec.token_width)  # each branch puts its own text there
            amount = part.mask * part.relative * control.strength
            beside.append(ControlNetRequest(net=net, shown=features[0], heard=silence, amount=amount))
    return replace(ctx, shared=ctx.shared + _joined(adapted, ctx), beside=tuple(beside))


def _joined(adapted: Sequence[tuple[Part, str, tuple[Tensor, ...]]], ctx: Context) -> Conditioning:
    """The features of several adapters, by region and kind and times their strengths, masked and added up."""
    levels = [features for _, _, features in adapted]
    if ctx.model.fuser is not None and all(levels) and levels:  # there are none while a scene is only explained
        levels = ctx.model.fuser([(kind, features) for _, kind, features in adapted])
    told = Conditioning()
    for (part, _, _), own in zip(adapted, levels, strict=True):
        told += Conditioning(intrablock=tuple(masked(level, part.mask * part.relative) for level in own))
    return told
