"""Localized control: a map that the image follows inside of a region's mask only.

T2I-Adapter (arXiv 2302.08453) with masked features (Domingo-Gregorio and Ruiz-Hidalgo, arXiv 2602.01991, section 3):
``F_k <- F_k * resize(M, size_k) * strength``; the adapter runs once a picture. ControlNet (arXiv 2302.05543) runs at
every step, and its residuals are masked in the same way. Features and residuals of several controls add up, where there
is one after CoAdapter's fuser. The mask is resized by area, so that it stays soft, to each level's own size. A weight
other than 1 counts as it does for text: M is multiplied by the share it gives the region over that of equal weights.

Both branches of classifier-free guidance have the features, as in the papers. With ``conditional_only`` the null branch
has none, so that guidance amplifies what they add: ``null + g (cond(F) - null)``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloisonne.core.control_residuals import ControlNetRequest, masked
from cloisonne.core.plan import Conditioning
from cloisonne.errors import ImageError
from cloisonne.methods.answers import EMBEDDED
from cloisonne.methods.context import Context
from cloisonne.methods.contribution import Contribution
from cloisonne.methods.layout import Part, Placed
from cloisonne.models.model import Model
from cloisonne.scene.conditions.control import Control
from cloisonne.scene.control_maps import DRAWN
from cloisonne.scene.io.images import open_rgb
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Frame

__all__ = ["contribute", "masked"]

ASPECT = 1.05
"""Largest allowed change of a map's aspect ratio."""


def contribute(parts: Sequence[Part], ctx: Context) -> Contribution:
    """Residuals of the regions' controls: in the conditional branch, and in the null branch unless left out there."""
    adapted: list[_Adapted] = []
    cond, null = Conditioning(), Conditioning()
    for part in parts:
        control = part.region.control
        if control is None or control.strength == 0 or not bool((part.mask > 0).any()):
            continue
        features = _features(part.region, ctx)
        net = ctx.model.controlnets.get(control.kind)
        if net is None:
            adapted.append(_Adapted(part, control, tuple(level * control.strength for level in features)))
            continue
        weight = part.mask * part.relative * control.strength
        request = Conditioning(controlnets=(ControlNetRequest(net=net, image=features[0], weight=weight),))
        cond += request
        null += Conditioning() if control.conditional_only else request
    in_null = [one for one in adapted if not one.control.conditional_only]
    residuals = _residuals(adapted, ctx)
    return Contribution(
        cond=cond + residuals, null=null + (residuals if in_null == adapted else _residuals(in_null, ctx))
    )


def conditional(region: Region) -> Region:
    """The region with its control in the conditional branch alone, unless it says otherwise."""
    if region.control is None or region.control.conditional_only is not None:
        return region
    return region.replace(control=region.control.replace(conditional_only=True))


def kinds_of(owner: Region | Scene) -> tuple[str, ...]:
    """The kind of a region's control, which the model needs an adapter for."""
    assert isinstance(owner, Region), "a scene has no control"
    return () if owner.control is None else (owner.control.kind,)


def idle_branches(scene: Scene, placed: Sequence[Placed], model: Model) -> Iterator[str]:
    """Warnings about ``conditional_only`` on models without a null branch."""
    if model.spec.embeds_guidance:
        for p in placed:
            if p.region.control is not None and p.region.control.conditional_only is not None:
                yield (
                    f'Region "{p.name}": the "conditional_only" of its control changes nothing here: {EMBEDDED.advice}.'
                )


def canvas_options(region: Region, model: Model) -> tuple[str, ...]:
    """The options that a region with a control sets for the text that conditions the canvas there."""
    set_here = {"negative": region.negative != "", "guidance": region.guidance is not None}
    return tuple(option for option, is_set in set_here.items() if is_set)


@dataclass(frozen=True, eq=False)
class _Adapted:
    """A region's control and the features of its T2I-Adapter [C_i, H_i, W_i] times its strength, not masked yet."""

    part: Part
    control: Control
    features: tuple[Tensor, ...]


def _residuals(adapted: Sequence[_Adapted], ctx: Context) -> Conditioning:
    """The features of several adapters, after the model's fuser if it has one, masked and added up."""
    levels = [one.features for one in adapted]
    if ctx.model.fuser is not None and all(levels) and levels:  # there are none while a scene is only explained
        levels = ctx.model.fuser([(one.control.kind, one.features) for one in adapted])
    total = Conditioning()
    for one, features in zip(adapted, levels, strict=True):
        own = tuple(masked(level, one.part.mask * one.part.relative) for level in features)
        total += Conditioning(residuals={ctx.model.adapters[one.control.kind].point: own} if own else {})
    return total


def _features(region: Region, ctx: Context) -> tuple[Tensor, ...]:
    """A region's control, encoded: features [C_i, H_i, W_i] of every level of a T2I-Adapter.

    For a ControlNet, which runs at every step, the map alone [3, height, width].
    """
    control = region.control
    assert control is not None, "the region has a control"
    net, (width, height) = ctx.model.controlnets.get(control.kind), ctx.frame.canvas

    def encode() -> tuple[Tensor, ...]:
        pixels = control_map(control, ctx.frame, region.name)
        return ctx.model.adapters[control.kind].features(pixels) if net is None else (net.control_image(pixels),)

    def blank() -> tuple[Tensor, ...]:
        return () if net is None else (torch.zeros(3, height, width),)

    return ctx.encoder.once(("control", region.name), encode, blank)


def control_map(control: Control, frame: Frame, region: str | None = None) -> NDArray[np.uint8]:
    """The adapter's input map, uint8 [height, width] or [height, width, 3], given or computed from a photo.

    Raises ImageError, naming the region, for a map of another aspect ratio than the image.
    """
    given = control.photo or control.image
    assert given is not None, "a control has one of the two"
    image = open_rgb(given, "control map" if control.photo is None else "photo", region)
    width, height = frame.image
    if not 1 / ASPECT <= image.width / image.height / (width / height) <= ASPECT:
        raise ImageError(
            f"The control's image is {image.width} x {image.height} pixels, but the canvas has the aspect ratio of "
            f"{width} x {height}; crop the image to that ratio.",
            region=region,
        )
    pixels = np.asarray(frame.of(image))
    return pixels if control.photo is None else DRAWN[control.kind](pixels)
