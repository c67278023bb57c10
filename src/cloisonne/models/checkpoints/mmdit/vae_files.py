"""The autoencoders of diffusion transformers in safetensors files, by the original names or those of diffusers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.ldm.fill import filled
from cloisonne.models.checkpoints.ldm.shapes import vae_config
from cloisonne.models.checkpoints.tensor_file import listed
from cloisonne.models.families import FAMILIES
from cloisonne.models.vae import Autoencoder

STATISTICS = "bn.running_mean"
"""A tensor of FLUX.2's autoencoder alone."""
COUNTER = "bn.num_batches_tracked"
MARK, MARK_OF_DIFFUSERS = "encoder.down.0.block.0.conv1.weight", "encoder.down_blocks.0.resnets.0.conv1.weight"
LIFTED = {"encoder.quant_conv.": "quant_conv.", "decoder.post_quant_conv.": "post_quant_conv."}
"""Layers of FLUX.2's autoencoder that diffusers has outside of the encoder and the decoder."""


class Scaling(NamedTuple):
    """What shapes do not have: the scaling and shift factors of the latents."""

    scale: float
    shift: float


SCALINGS = {
    "flux": Scaling(0.3611, 0.1159),
    "kontext": Scaling(0.3611, 0.1159),
    "sd3": Scaling(1.5305, 0.0609),
    "zimage": Scaling(0.3611, 0.1159),
}
"""By family; FLUX.2's autoencoder has statistics of its own."""


def read_vae(tensors: Mapping[str, Tensor], family: str, source: Path, prefix: str = "") -> Autoencoder:
    """The autoencoder of tensors without their prefix, for a family.

    Raises CheckpointError where they are none, or one of another family.
    """
    own = {_lifted(name): tensor for name, tensor in tensors.items()}
    if MARK not in own and MARK_OF_DIFFUSERS not in own:
        raise CheckpointError(
            f'"{source}" holds no autoencoder: its tensors are {listed(tensors)}; give one of {FAMILIES[family].title}.'
        )
    if (STATISTICS in own) != (family == "flux2"):
        which = "is" if STATISTICS in own else "is not"
        raise CheckpointError(
            f'The autoencoder in "{source}" {which} that of FLUX.2; give one of {FAMILIES[family].title}.'
        )
    config = {
        **(vae_config(own) if MARK in own else _config_of_diffusers(own)),
        "use_quant_conv": "quant_conv.weight" in own,
        "use_post_quant_conv": "post_quant_conv.weight" in own,
    }
    with torch.device("meta"):
        vae: Autoencoder = _made(family, config)
    if family == "flux2":
        own.setdefault(COUNTER, torch.zeros((), dtype=torch.long))
    return filled(vae, _of_diffusers(own, vae), len(own), source, prefix or "the autoencoder")


def _lifted(name: str) -> str:
    old = next((old for old in LIFTED if name.startswith(old)), "")
    return f"{LIFTED[old]}{name.removeprefix(old)}" if old else name


def _made(family: str, config: Mapping[str, Any]) -> Autoencoder:
    if family == "flux2":
        return AutoencoderKLFlux2(**config)
    scaling = SCALINGS[family]
    return AutoencoderKL(
        **config, scaling_factor=scaling.scale, shift_factor=scaling.shift, sample_size=1024, force_upcast=True
    )


def _of_diffusers(tensors: Mapping[str, Tensor], vae: Autoencoder) -> dict[str, Tensor]:
    """The tensors by diffusers' names."""
    if MARK not in tensors:
        return dict(tensors)
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    statistics = {name: tensor for name, tensor in tensors.items() if name.startswith("bn.")}
    return convert_ldm_vae_checkpoint(dict(tensors), dict(vae.config)) | statistics


def _config_of_diffusers(t: Mapping[str, Tensor]) -> dict[str, Any]:
    """As :func:`vae_config`, by diffusers' names."""
    blocks = {name.split(".")[2] for name in t if name.startswith("encoder.down_blocks.")}
    resnets = {name.split(".")[4] for name in t if name.startswith("encoder.down_blocks.0.resnets.")}
    return {
        "block_out_channels": [len(t[f"encoder.down_blocks.{i}.resnets.0.conv1.weight"]) for i in range(len(blocks))],
        "layers_per_block": len(resnets),
        "latent_channels": t["decoder.conv_in.weight"].shape[1],
        "down_block_types": ["DownEncoderBlock2D"] * len(blocks),
        "up_block_types": ["UpDecoderBlock2D"] * len(blocks),
    }
