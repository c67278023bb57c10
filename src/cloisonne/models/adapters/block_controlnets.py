"""Read the ControlNets of diffusion transformers from their diffusers folders or single files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.controlnets.controlnet_sd3 import SD3ControlNetModel
from diffusers.models.controlnets.controlnet_z_image import ZImageControlNetModel

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.adapters.block_controlnet import BlockControlNet, FluxControlNet, Sd3ControlNet
from cloisonne.models.adapters.block_controlnet_file import read_controlnet_file
from cloisonne.models.adapters.zimage_controlnet import ZImageControlNet
from cloisonne.models.checkpoints.files import check_weights, pretrained, read, read_json, variant_notes
from cloisonne.models.checkpoints.network_config import check_network
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Model
from cloisonne.scene.io.quiet import without_warnings

CLASSES: Mapping[str, tuple[Any, type[BlockControlNet]]] = {
    "flux": (FluxControlNetModel, FluxControlNet),
    "sd3": (SD3ControlNetModel, Sd3ControlNet),
    "zimage": (ZImageControlNetModel, ZImageControlNet),
}
"""diffusers' class and ours, by family."""


@dataclass(frozen=True, eq=False)
class ReadControlNet:
    """A network that was read, and warnings about its folder."""

    module: Any
    warnings: tuple[str, ...]


def read_block_controlnet(
    path: Path, family: str, base: Mapping[str, Any], dtype: torch.dtype, device: torch.device
) -> ReadControlNet:
    """Read the ControlNet in a diffusers folder or a safetensors file for a family of transformers.

    base: the configuration of the network that it is for. Raises CapabilityError for a family without ControlNets,
    CheckpointError where the path is none, or damaged.
    """
    if family not in CLASSES:
        others = ", ".join(FAMILIES[name].title for name in CLASSES)
        raise CapabilityError(
            f"{FAMILIES[family].title} takes no ControlNet and no adapter; leave it out, or load one of {others}."
        )
    kind, _ = CLASSES[family]
    warn: list[str] = []
    with without_warnings():  # diffusers warns of its own import
        if path.is_file():
            module = read_controlnet_file(kind, path, family, base, dtype)
        else:
            module = _of_folder(kind, path, family, dtype, warn)
    # Not diffusers' own "to", whose warnings are about other networks.
    placed: Any = torch.nn.Module.to(module, device, dtype)
    return ReadControlNet(placed.eval().requires_grad_(False), tuple(warn))


def _of_folder(kind: Any, folder: Path, family: str, dtype: torch.dtype, warn: list[str]) -> Any:
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointError(
            f'"{folder}" is no diffusers folder of a {kind.__name__}, which a ControlNet of '
            f"{FAMILIES[family].title} is read from; give the folder with config.json."
        )
    check_network(file, read_json(file), kind)
    taken = check_weights(folder)
    warn += variant_notes(folder.name, {"the ControlNet": taken})[1]
    theirs = {"torch_dtype": dtype, "low_cpu_mem_usage": False, "variant": taken}
    return read(folder, lambda path: pretrained(kind, path, warn=warn, **theirs))


def bound(found: ReadControlNet, model: Model, kind: str) -> BlockControlNet:
    """A network that was read, for a model and a kind of control. Raises CheckpointError where it does not fit."""
    _, ours = CLASSES[model.family]
    network: Any = model.net.modules[0]
    net = ours(found.module, network, model.vae, model.text.length, model.device, found.warnings)
    if wrong := net.mismatch():
        values = ", ".join(f"{name} {found.module.config[name]}" for name in wrong)
        raise CheckpointError(
            f'The ControlNet for {kind} has {values}, which does not fit "{model.name}"; load one trained for this '
            "model."
        )
    return net.of_kind(kind)
