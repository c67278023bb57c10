"""Add LoRAs to a checkpoint: fused into its weights, or unfused to apply by region."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cloisonne.errors import CheckpointError, spelled
from cloisonne.models.checkpoints.embedding_file import add_bundled
from cloisonne.models.checkpoints.lora.changes import Change
from cloisonne.models.checkpoints.lora.file import LoraFile
from cloisonne.models.checkpoints.lora.names import has_transformer, modules_of
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.checkpoints.tensor_file import listed
from cloisonne.models.mmdit.region_lora import acts_on_whole_image
from cloisonne.models.quantized.layers import QuantizedLinear, replace_layer
from cloisonne.models.unet.region_lora import Added, Dense, Lora, LowRank, unmaskable


def add_loras(parts: Parts, loras: Sequence[tuple[Path, float]]) -> Parts:
    """Fuse LoRAs of any trainer into a checkpoint's networks, each at its scale, and add the words they bundle.

    Changed layers get parameters of their own, so that copies of the networks that share the old ones do not change.
    Raises CheckpointError for a file that is no LoRA, has an unsupported form, or was trained for another model family;
    warnings of the parts name what of a file is not used.
    """
    warnings = list(parts.warnings)
    for file, scale in loras:
        found = LoraFile.read(file, parts)
        warnings += found.warnings
        if found.bundled and has_transformer(parts):
            raise CheckpointError(
                f'"{file}" is a LoRA that bundles the learned words {listed(found.bundled)}, which diffusion '
                "transformers do not take; load it without them."
            )
        parts = add_bundled(parts, file, found.bundled)
        if not scale:
            continue
        modules = modules_of(parts)
        changed = [_fuse(_plain(modules[part], name), c, scale) for (part, name), c in found.changes.items()]
        if not any(changed):
            raise CheckpointError(f'"{file}" changes no layer of the model: all its changes are zero.')
    return replace(parts, warnings=tuple(warnings))


def _plain(network: nn.Module, name: str) -> Any:
    """The layer of a name; a quantised one is replaced by one whose weight is a parameter."""
    layer = network.get_submodule(name)
    if isinstance(layer, QuantizedLinear):
        layer = layer.plain()
        replace_layer(network, name, layer)
    return layer


@torch.no_grad()
def _fuse(module: Any, change: Change, scale: float) -> bool:
    """Add a change to a layer's weight and bias, as new parameters. Returns whether that changed a value."""
    # On the CPU, so that the result has the same bits wherever the layer is.
    before, bias = module.weight.cpu(), getattr(module, "bias", None)
    after = change.fused(before, scale)
    changed = not torch.equal(before, after)
    module.weight = nn.Parameter(after, requires_grad=False)
    if bias is not None and (added := change.bias(tuple(bias.shape), scale)) is not None:
        module.bias = nn.Parameter(bias.cpu() + added.to(bias.dtype), requires_grad=False)
        changed = changed or bool(added.any())
    return changed


def read_lora(parts: Parts, file: Path) -> Lora:
    """Read a LoRA of any trainer to apply by region; the parts do not change.

    Raises CheckpointError as :func:`add_loras`, and for changes that cannot be masked by region.
    """
    found = LoraFile.read(file, parts)
    if found.bundled:
        raise CheckpointError(
            f'"{file}" is a LoRA that bundles the learned words {listed(found.bundled)}, which cannot apply by region; '
            f"fuse it for the whole image: {spelled('load(..., lora=FILE)', '--lora FILE')}."
        )
    own = {layer.name: change for layer, change in found.changes.items() if layer.part == 0}
    words = any(layer.part > 0 and not change.is_zero for layer, change in found.changes.items())
    if magnitudes := [name for name, change in own.items() if change.has_magnitude]:
        raise CheckpointError(
            f'"{file}" is a LoRA with magnitudes (DoRA) of {len(magnitudes)} layers, such as "{magnitudes[0]}", which '
            "cannot apply by region; fuse it for the whole image: "
            f"{spelled('load(..., lora=FILE)', '--lora FILE')}."
        )
    for name in own:
        if not isinstance(parts.network.get_submodule(name), nn.Linear | nn.Conv2d | QuantizedLinear):
            raise CheckpointError(
                f'"{file}" changes the norm "{name}", which cannot apply by region; fuse it for the whole image: '
                f"{spelled('load(..., lora=FILE)', '--lora FILE')}."
            )
    added = {name: _added(parts.network.get_submodule(name), change) for name, change in own.items()}
    layers = {name: one for name, one in added.items() if one is not None}
    if not layers:
        raise CheckpointError(f'"{file}" fits no layer of the network; load a LoRA trained for this model family.')
    if has_transformer(parts):
        return Lora(layers, words, found.warnings, sum(map(acts_on_whole_image, layers)))
    if (layer := unmaskable(parts.network, sorted(layers))) is not None:
        raise CheckpointError(
            f'"{file}" changes the layer "{layer}", which acts on the whole image at once, so it cannot apply by '
            f"region; fuse it: {spelled('load(..., lora=FILE)', '--lora FILE')}."
        )
    return Lora(layers, words, found.warnings)


def _added(module: Any, change: Change) -> Added | None:
    """A change in the form that is added to the layer's output; None where it is zero."""
    shape = tuple(module.weight.shape)
    if change.low_rank:
        down, up = (change.slots[slot].float() for slot in ("down", "up"))
        if change.is_zero:
            return None
        if isinstance(module, nn.Conv2d):
            down, up = down.reshape(*down.shape[:2], *(down.shape[2:] or (1, 1))), up.reshape(*up.shape[:2], 1, 1)
        else:
            down, up = down.flatten(1), up.flatten(1)
        return LowRank(down.clone(), up * change.scale)
    weight = change.weight(shape)
    bias = change.bias(() if module.bias is None else tuple(module.bias.shape))
    weight = torch.zeros(shape) if weight is None else weight
    return Dense(weight, bias) if bool(weight.any()) or (bias is not None and bool(bias.any())) else None
