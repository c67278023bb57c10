"""The trained network: a T2I-Adapter with a frozen base."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.adapter import T2IAdapter
from torch import Tensor, nn

from cloisonne.errors import CheckpointError
from cloisonne.models.adapters.t2i_adapter import check_adapter, read_adapter
from cloisonne.models.model import Model
from cloisonne.train.control.settings import Settings
from cloisonne.train.engine.base import base_unet


def first_adapter(model: Model, settings: Settings) -> T2IAdapter:
    """The adapter to train: loaded from ``settings.adapter``, or a new one.

    Raises CheckpointError if the given adapter cannot be read or does not fit the base or the kind of map.
    """
    if settings.adapter is None:
        return new_adapter(model, settings)
    given = read_adapter(Path(settings.adapter).expanduser(), torch.float32, torch.device("cpu"))
    check_adapter(given, settings.kind, base_unet(model).config, model.name)
    if given.channels != channels_of(settings.kind):
        raise CheckpointError(
            f'The adapter "{settings.adapter}" takes maps of {given.channels} channels, and "{settings.kind}" has '
            f"{channels_of(settings.kind)}; give an adapter for the same kind of map, or omit --adapter."
        )
    return given.module.requires_grad_(True)


def channels_of(kind: str) -> int:
    """Number of channels of a control map."""
    return 3 if kind == "color" else 1


def new_adapter(model: Model, settings: Settings) -> T2IAdapter:
    """A randomly initialised adapter for the UNet of the base.

    If the first level of the UNet has no attention, features are added after its downsampling, so the adapter has the
    type of those for Stable Diffusion XL.
    """
    config: Any = base_unet(model).config
    late = config["down_block_types"][0] == "DownBlock2D"
    torch.manual_seed(settings.seed)
    return T2IAdapter(
        in_channels=channels_of(settings.kind),
        channels=list(config["block_out_channels"]),
        num_res_blocks=settings.num_res_blocks,
        downscale_factor=model.spec.vae_factor * (2 if late else 1),
        adapter_type="full_adapter_xl" if late else "full_adapter",
    )


class Student(nn.Module):
    """Adapter and frozen base: noisy latents, caption, map and mask to the UNet output [B, C, H, W].

    ``settings.masked`` chooses whether the mask multiplies the adapter's features (ours) or the map.
    """

    def __init__(self, adapter: T2IAdapter, model: Model, settings: Settings) -> None:
        super().__init__()
        self.adapter: Any = adapter
        self.unet: Any = base_unet(model)
        self.text: Any = model.text.modules[0]
        self._features = settings.masked == "features"
        self.unet.requires_grad_(False)
        self.text.requires_grad_(False)
        if settings.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.train()

    def forward(self, z: Tensor, control: Tensor, mask: Tensor, ids: Tensor, t: Tensor) -> Tensor:
        """z [B, C, H, W], control [B, 1 or 3, h, w], mask [B, 1, h, w], ids [B, L], t [B]."""
        with torch.no_grad():
            hidden_states = self.text(ids).last_hidden_state
        levels = self.adapter(control if self._features else control * mask)
        if self._features:
            levels = [level * F.adaptive_avg_pool2d(mask, level.shape[-2:]) for level in levels]
        return self.unet(
            z,
            t,
            encoder_hidden_states=hidden_states,
            down_intrablock_additional_residuals=list(levels),
            return_dict=False,
        )[0]
