"""LoRAs by region (``core/region_lora.py``): each branch of each text-conditioned view is changed where the region is.

The mask is the region's share, so that overlapping ones share pixels as their texts do, and a LoRA over all of the
canvas is the fused one. In joint attention the tokens of a region's phrase are changed with its image tokens
(``models/mmdit/region_lora.py``). ControlNets, adapters, Paint by Example and text encoders are not changed.
"""

from collections.abc import Iterator, Sequence

import torch

from cloisonne.core.plan import Conditioning
from cloisonne.core.region_lora import ROUNDING, LoraScales, RegionLora
from cloisonne.methods.context import Context
from cloisonne.methods.contribution import Contribution, both
from cloisonne.methods.layout import Part, Placed
from cloisonne.models.model import Model
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.tags import added


def names_of(owner: Region | Scene) -> tuple[str, ...]:
    """The names of a region's or scene's LoRAs, which the model has to be loaded with."""
    return tuple(lora.name for lora in owner.lora)


def lacks(model: Model, name: str | None) -> str:
    """Completes "The model X ..." about a LoRA that it does not have."""
    names = ", ".join(f'"{known}"' for known in sorted(model.net.loras)) or "none"
    return f'has no LoRA "{name}" for regions (it has {names})'


def contribute(parts: Sequence[Part], ctx: Context) -> Contribution:
    """The scene's and the regions' LoRAs, in every branch.

    In a region with LoRAs of its own both count, with the sum of their scales where they are the same.
    """
    found, whole = [], ctx.scene.lora
    for part in parts:
        if scaled := _scaled(part.region.lora):
            everywhere = bool((part.share >= 1 - ROUNDING).all())
            summed = _scaled(added(whole, part.region.lora)) if whole else scaled
            found.append(RegionLora(summed, mask=None if everywhere else part.share))
    if scaled := _scaled(whole):
        own = [piece.mask for piece in found]
        if not own:
            found.append(RegionLora(scaled))
        elif all(mask is not None for mask in own):
            left = 1 - torch.stack([mask for mask in own if mask is not None]).sum(0)
            found.append(RegionLora(scaled, mask=torch.where(left > ROUNDING, left, torch.zeros_like(left))))
    return both(Conditioning(region_loras=tuple(found)))


def lora_warnings(scene: Scene, placed: Sequence[Placed], model: Model) -> Iterator[str]:
    """Warnings of LoRAs that have no effect in this scene."""
    owners = [("", scene.lora), *((f'Region "{p.name}": the ', p.region.lora) for p in placed)]
    for owner, loras in owners:
        for name, _ in _scaled(loras):
            if model.net.loras[name].words:
                yield (
                    f'{owner or "The "}LoRA "{name}" was also made for the text encoder; by region only its '
                    "changes of the denoiser count."
                )
    for p in placed:
        for name, _ in _scaled(p.region.lora):
            lora = model.net.loras[name]
            if lora.whole and bool((p.mask < 1).any()):
                yield (
                    f'Region "{p.name}": {lora.whole} of the {len(lora.layers)} layers that the LoRA "{name}" changes '
                    "act on the whole image (modulations); by region they do not count."
                )


def _scaled(loras: Sequence[Lora]) -> LoraScales:
    return tuple((lora.name, lora.scale) for lora in loras if lora.scale != 0)
