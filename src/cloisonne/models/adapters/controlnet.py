"""ControlNets (arXiv 2302.05543): control image, noisy canvas and text to residuals of the UNet, at every step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cloisonne.core.step import Step
from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.files import check_weights, pretrained, read, read_json, variant_notes
from cloisonne.models.checkpoints.network_config import check_network, check_unet
from cloisonne.models.checkpoints.tensor_file import TensorFile
from cloisonne.models.cost import Cost, count_cost
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.denoiser import added_inputs
from cloisonne.models.unet.injection_points import SKIP_MID

OURS, LDM, PREFIX = "controlnet_mid_block.weight", "middle_block_out.0.weight", "control_model."
"""Tensors that identify a single file: by diffusers' names, or by the original ones with or without a prefix."""
KIND = "ControlNetModel"
BASE = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "model_ema.")
"""Prefixes of the whole checkpoint that original files hold in addition: the ControlNet's base."""


@dataclass(frozen=True, eq=False)
class ControlNet:
    """A diffusers ControlNet as a :class:`~cloisonne.core.control_residuals.ResidualNet`.

    warnings: what of its file is not used. point: where its residuals enter the base network.
    """

    module: ControlNetModel
    device: torch.device
    warnings: tuple[str, ...] = ()
    point: str = SKIP_MID

    def control_image(self, pixels: NDArray[np.uint8]) -> Tensor:
        """The control image [3, height, width], float32 in [0, 1], of a map uint8 [height, width] or [..., 3]."""
        rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(rgb, -1, 0), np.float32) / 255).to(self.device)

    def __call__(
        self,
        z: Tensor,
        step: Step,
        texts: Sequence[Tensor],
        image: Tensor,
        pooled: Tensor | None,
        micro: Mapping[str, Tensor],
        weights: Tensor,
    ) -> tuple[Tensor, ...]:
        """Residuals [R, C_i, H_i, W_i], float32, of the down blocks and then of the middle one."""
        module: Any = self.module
        dtype = module.dtype
        added = None
        if pooled is not None and "size" in micro:
            added = {"text_embeds": pooled.to(dtype), "time_ids": micro["size"].to(dtype)}
        down, middle = module(
            z.to(dtype),
            torch.full((len(z),), step.t, device=z.device),
            encoder_hidden_states=torch.stack(list(texts)).to(dtype),
            controlnet_cond=image.to(dtype),
            added_cond_kwargs=added,
            return_dict=False,
        )
        return tuple(level.float() for level in (*down, middle))

    def cost(self, base: NetSpec, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W) of the base network; nothing is computed."""
        with torch.device("meta"):
            module: Any = ControlNetModel.from_config(self.module.config)
            z, text = torch.empty(1, base.latent_channels, *canvas), torch.empty(1, num_tokens, base.token_width)
            image = torch.empty(1, 3, *(side * base.vae_factor for side in canvas))
            return count_cost(module, z, torch.empty(1), text, image, added_cond_kwargs=added_inputs(base))


def is_controlnet(source: Path) -> bool:
    """Whether a folder's configuration or a file's tensors are a ControlNet's; False where they cannot be read."""
    if source.is_dir():
        return (source / "config.json").is_file() and "ControlNet" in str(_class(source))
    if source.suffix != ".safetensors" or not source.is_file():
        return False
    try:
        with safe_open(source, "pt") as file:
            names = set(file.keys())
    except (OSError, SafetensorError):
        return False
    return not names.isdisjoint({OURS, LDM, PREFIX + LDM, "input_hint_block.0.weight"})


def read_controlnet(source: Path, base: Any, dtype: torch.dtype, device: torch.device) -> ControlNet:
    """Read a ControlNet from a diffusers folder, or a single ``.safetensors`` file in diffusers' or original layout.

    base: the UNet that it is for; a single file takes its configuration. Raises CheckpointError where it is none, or
    damaged.
    """
    warnings: tuple[str, ...] = ()
    if source.is_dir():
        if _class(source) not in (KIND, None):
            raise CheckpointError(f'"{source}" is a {_class(source)}, which is not supported; give a {KIND}.')
        file = source / "config.json"
        check_network(file, read_json(file), ControlNetModel)
        check_unet(file, read_json(file))
        taken = check_weights(source)
        theirs = {"torch_dtype": dtype, "low_cpu_mem_usage": False, "variant": taken}
        warn = list(variant_notes(source.name, {"the ControlNet": taken})[1])
        module = read(source, lambda path: pretrained(ControlNetModel, path, warn=warn, **theirs))
        warnings = tuple(warn)
    else:
        opened = TensorFile.open(source)
        module = read(source, lambda _: controlnet_of(opened, base))
        warnings = opened.settle("ControlNet")
    config: Any = module.config
    if config["global_pool_conditions"] or config["conditioning_channels"] != 3:
        raise CheckpointError(
            f'"{source}" pools its residuals over the whole image, or takes no RGB control image, so it cannot apply '
            "by region; give another ControlNet."
        )
    # Not diffusers' own "to", whose warnings are about other networks.
    placed: Any = torch.nn.Module.to(module, device, dtype)
    return ControlNet(placed.eval().requires_grad_(False), device, warnings)


def _class(folder: Path) -> str | None:
    return read_json(folder / "config.json").get("_class_name")


def controlnet_of(opened: TensorFile, base: Any) -> ControlNetModel:
    """diffusers' ControlNet from the tensors of a file, configured like the UNet ``base``."""
    own = dict(opened.tensors)
    if OURS not in own:
        from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

        converted = convert_controlnet_checkpoint(own, base.config)
        own = {name: tensor for name, tensor in converted.items() if tensor is not None}
    # The converter drops unknown tensors; all that it returns the network takes, or the file is refused.
    used = {id(tensor) for tensor in own.values()}
    for name, tensor in opened.tensors.items():
        if id(tensor) in used:
            opened.take(name)
    if any(name.startswith(PREFIX) for name in opened.tensors):
        opened.skip(lambda name: name.startswith(BASE), "the checkpoint that a ControlNet was published with")
    embedding = "controlnet_cond_embedding"
    try:
        widths = [len(own[f"{embedding}.conv_in.weight"])]
        while (name := f"{embedding}.blocks.{2 * len(widths) - 1}.weight") in own:
            widths.append(len(own[name]))
        module = ControlNetModel.from_unet(
            base, conditioning_embedding_out_channels=tuple(widths), load_weights_from_unet=False
        )
        module.load_state_dict(own)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f'"{opened.source}" does not have the tensors of a ControlNet for this model; load one trained for this '
            "model family, or its diffusers folder, which has its configuration."
        ) from error
    return module


def check_controlnet(net: ControlNet, kind: str, unet: Mapping[str, Any], vae_factor: int, model: str) -> None:
    """Raise CheckpointError where a ControlNet's residuals do not fit the UNet, or its control images the canvas."""
    config: Any = net.module.config
    names = ("block_out_channels", "layers_per_block", "cross_attention_dim", "addition_embed_type")
    ours, theirs = ([unet["out_channels"]], [config["in_channels"]])
    ours += [_plain(unet[name]) for name in names]
    theirs += [_plain(config[name]) for name in names]
    if ours != theirs:
        raise CheckpointError(
            f"The ControlNet for {kind}, of {_plain(config['block_out_channels'])} channels and text of width "
            f'{config["cross_attention_dim"]}, does not fit "{model}" with {_plain(unet["block_out_channels"])} and '
            f"{unet['cross_attention_dim']}; load one trained for this model family."
        )
    stride = 2 ** (len(config["conditioning_embedding_out_channels"]) - 1)
    if stride != vae_factor:
        raise CheckpointError(
            f'The ControlNet for {kind} takes {stride} pixels for a latent one, and "{model}" has {vae_factor}; load '
            "one trained for this model family."
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value
