"""Localized control: a map that the image follows inside of a region's mask only.

T2I-Adapter (arXiv 2302.08453) with masked features (Domingo-Gregorio and Ruiz-Hidalgo, arXiv 2602.01991, section 3):
``F_k <- F_k * resize(M, size_k) * strength``; the adapter runs once a picture. ControlNet (arXiv 2302.05543) runs at
every step, and its residuals are masked in the same way. Features and residuals of several controls add up, where there
is one after CoAdapter's fuser. The mask is resized by area, so that it stays soft, to each level's own size. A weight
other than 1 counts as it does for text: M is multiplied by the share it gives the region over that of equal weights.
"""

from collections.abc import Sequence

from torch import Tensor

from cloisonne.core.control_residuals import ControlNetRequest, masked
from cloisonne.core.plan import Conditioning
from cloisonne.methods.context import Context
from cloisonne.methods.contribution import Contribution, both
from cloisonne.methods.layout import Part
from cloisonne.models.model import Model
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

__all__ = ["contribute", "masked"]


def contribute(parts: Sequence[Part], ctx: Context) -> Contribution:
    """Residuals of the regions' controls, in every branch."""
    adapted: list[tuple[Part, str, tuple[Tensor, ...]]] = []
    requests = []
    for part in parts:
        control = part.region.control
        if control is None or control.strength == 0 or not bool((part.mask > 0).any()):
            continue
        features = ctx.control_features(part.region)
        net = ctx.model.controlnets.get(control.kind)
        if net is None:
            adapted.append((part, control.kind, tuple(level * control.strength for level in features)))
        else:
            weight = part.mask * part.relative * control.strength
            requests.append(ControlNetRequest(net=net, image=features[0], weight=weight))
    return both(_joined(adapted, ctx) + Conditioning(controlnets=tuple(requests)))


def kinds_of(owner: Region | Scene) -> tuple[str, ...]:
    """The kind of a region's control, which the model needs an adapter for."""
    assert isinstance(owner, Region), "a scene has no control"
    return () if owner.control is None else (owner.control.kind,)


def canvas_options(region: Region, model: Model) -> tuple[str, ...]:
    """The options that a region with a control sets for the text that conditions the canvas there."""
    set_here = {"negative": region.negative != "", "guidance": region.guidance is not None}
    return tuple(option for option, is_set in set_here.items() if is_set)


def _joined(adapted: Sequence[tuple[Part, str, tuple[Tensor, ...]]], ctx: Context) -> Conditioning:
    """The features of several adapters, by region and kind and times their strengths, masked and added up."""
    levels = [features for _, _, features in adapted]
    if ctx.model.fuser is not None and all(levels) and levels:  # there are none while a scene is only explained
        levels = ctx.model.fuser([(kind, features) for _, kind, features in adapted])
    total = Conditioning()
    for (part, kind, _), own in zip(adapted, levels, strict=True):
        features = tuple(masked(level, part.mask * part.relative) for level in own)
        point = ctx.model.adapters[kind].point
        total += Conditioning(residuals={point: features} if features else {})
    return total
