"""ControlNets of FLUX.1 and Stable Diffusion 3: residuals behind a transformer's blocks, at every step.

``zimage_controlnet.py`` has Z-Image's. Blocks of the base network take the residuals that they take in diffusers.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from diffusers.models.controlnets.controlnet_flux import FluxControlNetModel
from diffusers.models.controlnets.controlnet_sd3 import SD3ControlNetModel
from numpy.typing import NDArray
from torch import Tensor

from cloisonne.core.control_residuals import BlockPoint
from cloisonne.core.step import Step
from cloisonne.errors import CheckpointError
from cloisonne.models.cost import Cost, count_cost
from cloisonne.models.mmdit.flux import PATCH
from cloisonne.models.mmdit.packing import image_positions, packed
from cloisonne.models.mmdit.sd3 import TIMES
from cloisonne.models.spec import NetSpec
from cloisonne.models.vae import Vae
from cloisonne.scene.io.quiet import without_warnings

UNION_MODES = {"canny": 0, "depth": 2, "openpose": 4}
"""Modes of the published unions for FLUX.1 (InstantX, Shakker Labs), by kind of control. Their others (tile, blur,
gray, low quality) are no kinds of control."""


@dataclass(frozen=True, eq=False)
class BlockControlNet(ABC):
    """A diffusers ControlNet of a transformer as a :class:`~cloisonne.core.control_residuals.ResidualNet`.

    base: the network that it is for. vae: encodes control images. length: tokens of the longest text. warnings: what of
    its folder is not used.
    """

    module: Any
    base: Any
    vae: Vae
    length: int
    device: torch.device
    warnings: tuple[str, ...] = ()

    @property
    def shares_layers(self) -> bool:
        """Whether its forward pass takes layers of the base network."""
        return False

    @property
    @abstractmethod
    def point(self) -> BlockPoint:
        """Which of its levels each block of the base network takes."""

    @abstractmethod
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
        """Residuals of each level, float32: [R, D, h, w] on the grid of image tokens."""

    @abstractmethod
    def cost(self, base: NetSpec, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W) of the base network; nothing is computed."""

    @abstractmethod
    def mismatch(self) -> list[str]:
        """Names of the configuration's values that do not fit the base network's."""

    def control_image(self, pixels: NDArray[np.uint8]) -> Tensor:
        """The latents [C, H, W] of a map uint8 [height, width] or [..., 3]."""
        return self.vae.encode(_signed(pixels))[0].to(self.device)

    def of_kind(self, kind: str) -> Self:
        """The same for a kind of control. Raises CheckpointError where the network does not have it."""
        return self

    def _differing(self, *names: str) -> list[str]:
        ours, theirs = self.module.config, self.base.config
        # JSON makes lists of tuples.
        own, other = ({n: list(v) if isinstance(v := c[n], tuple) else v for n in names} for c in (ours, theirs))
        return [name for name in names if own[name] != other[name]]


def _signed(pixels: NDArray[np.uint8]) -> Tensor:
    """[1, 3, height, width], float32 in [-1, 1]."""
    rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(rgb, -1, 0), np.float32) / 127.5 - 1)[None]


def on_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Image tokens [R, Q, D] as float32 [R, D, h, w]."""
    return tokens.transpose(1, 2).unflatten(2, grid).float()


@dataclass(frozen=True, eq=False)
class FluxControlNet(BlockControlNet):
    """A FluxControlNetModel. mode: of a union of several kinds of control."""

    module: FluxControlNetModel
    mode: int | None = None

    @property
    def _hints(self) -> bool:
        """Whether its control image are pixels in place of latents, as XLabs' are."""
        return self.module.input_hint_block is not None

    @cached_property
    def point(self) -> BlockPoint:
        """Evenly over the blocks of each kind; XLabs' begin anew after the last one."""
        double, single = len(self.module.transformer_blocks), len(self.module.single_transformer_blocks)
        blocks = [len(self.base.transformer_blocks), len(self.base.single_transformer_blocks)]
        every = [math.ceil(count / own) if own else 0 for count, own in zip(blocks, (double, single), strict=True)]
        firsts = [((i % double if self._hints else i // every[0]),) if double else () for i in range(blocks[0])]
        others = [(double + i // every[1],) if single else () for i in range(blocks[1])]
        return BlockPoint((*firsts, *others))

    def control_image(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Latents [C, H, W], or for XLabs' pixels [3, height, width] in [-1, 1]."""
        return _signed(pixels)[0].to(self.device) if self._hints else super().control_image(pixels)

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
        """[R, D, h, w] of the double blocks and then of the single ones."""
        module: Any = self.module
        dtype, device, axes = module.dtype, z.device, len(module.config["axes_dims_rope"])
        grid, text = (z.shape[-2] // PATCH, z.shape[-1] // PATCH), torch.stack(list(texts)).to(dtype)
        own = image.to(dtype)
        levels = module(
            hidden_states=packed(z.to(dtype), PATCH),
            controlnet_cond=own if self._hints else packed(own, PATCH),
            controlnet_mode=None if self.mode is None else torch.full((len(z), 1), self.mode, device=device),
            encoder_hidden_states=text,
            pooled_projections=None if pooled is None else pooled.to(dtype),
            timestep=torch.full((len(z),), step.s, device=device),
            guidance=micro["guidance"][:, 0] if module.config["guidance_embeds"] else None,
            txt_ids=torch.zeros(text.shape[1], axes, device=device),
            img_ids=image_positions(grid, axes, device),
            return_dict=False,
        )
        return tuple(on_grid(level, grid) for some in levels for level in some or ())

    def cost(self, base: NetSpec, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W) of the base network; nothing is computed."""
        grid, config = (canvas[0] // PATCH, canvas[1] // PATCH), self.module.config
        axes, count = len(config["axes_dims_rope"]), grid[0] * grid[1]
        pixels = torch.empty(1, 3, *(side * base.vae_factor for side in canvas), device="meta")
        # diffusers warns of its own import.
        with torch.device("meta"), without_warnings():
            module: Any = FluxControlNetModel.from_config(config)
            return count_cost(
                module,
                hidden_states=torch.empty(1, count, config["in_channels"]),
                controlnet_cond=pixels if self._hints else torch.empty(1, count, config["in_channels"]),
                controlnet_mode=None if self.mode is None else torch.zeros(1, 1, dtype=torch.long),
                encoder_hidden_states=torch.empty(1, num_tokens, base.token_width),
                pooled_projections=torch.empty(1, base.pooled_width),
                timestep=torch.empty(1),
                guidance=torch.empty(1) if config["guidance_embeds"] else None,
                txt_ids=torch.empty(num_tokens, axes),
                img_ids=torch.empty(count, axes),
            )

    def mismatch(self) -> list[str]:
        """Names of the configuration's values that do not fit the base network's."""
        names = ("in_channels", "num_attention_heads", "attention_head_dim", "joint_attention_dim")
        found = self._differing(*names, "pooled_projection_dim")
        needs = self.module.config["guidance_embeds"] and not self.base.config["guidance_embeds"]
        return [*found, *(["guidance_embeds"] if needs else [])]

    def of_kind(self, kind: str) -> Self:
        """The mode of a union. Raises CheckpointError for kinds that it does not have."""
        modes = self.module.config["num_mode"]
        if modes is None:
            return self
        if UNION_MODES.get(kind, modes) >= modes:
            raise CheckpointError(
                f'The ControlNet is a union of {modes} modes, of which none is "{kind}"; give it for '
                f"{', '.join(name for name, mode in UNION_MODES.items() if mode < modes)}, or another ControlNet."
            )
        return replace(self, mode=UNION_MODES[kind])


@dataclass(frozen=True, eq=False)
class Sd3ControlNet(BlockControlNet):
    """An SD3ControlNetModel, with text, or without it and with the base network's positions (3.5 Large's own)."""

    module: SD3ControlNetModel

    @property
    def shares_layers(self) -> bool:
        """Whether its forward pass takes the base network's positions."""
        return self.module.pos_embed is None

    @cached_property
    def point(self) -> BlockPoint:
        """Evenly over the blocks, without those that have no further use of their text."""
        blocks, own = self.base.transformer_blocks, len(self.module.transformer_blocks)
        every = len(blocks) / own
        return BlockPoint(tuple(() if block.context_pre_only else (int(i / every),) for i, block in enumerate(blocks)))

    def control_image(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Latents [C, H, W]; without the shift where the network takes no pooled text, as it was trained."""
        latents = super().control_image(pixels)
        shifts = not self.module.config["force_zeros_for_pooled_projection"]
        assert isinstance(self.vae.shift, float | int), "its autoencoder has one shift"
        assert isinstance(self.vae.scale, float | int), "its autoencoder has one scale"
        return latents if shifts else latents + self.vae.shift * self.vae.scale

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
        """[R, D, h, w] of each block."""
        module: Any = self.module
        dtype, patch = module.dtype, module.config["patch_size"]
        assert pooled is not None, "Stable Diffusion 3 has pooled text"
        summary = pooled.to(dtype)
        zeros = module.config["force_zeros_for_pooled_projection"]
        own = z.to(dtype)
        levels = module(
            hidden_states=own if module.pos_embed is not None else self.base.pos_embed(z.to(self.base.dtype)).to(dtype),
            controlnet_cond=image.to(dtype),
            encoder_hidden_states=None if module.context_embedder is None else torch.stack(list(texts)).to(dtype),
            pooled_projections=torch.zeros_like(summary) if zeros else summary,
            timestep=torch.full((len(z),), step.s * TIMES, device=z.device),
            return_dict=False,
        )[0]
        return tuple(on_grid(level, (z.shape[-2] // patch, z.shape[-1] // patch)) for level in levels)

    def cost(self, base: NetSpec, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W) of the base network; nothing is computed."""
        config, patch = self.module.config, self.module.config["patch_size"]
        count, width = (canvas[0] // patch) * (canvas[1] // patch), self.module.inner_dim
        with torch.device("meta"):
            module: Any = SD3ControlNetModel.from_config(config)
            z = torch.empty(1, base.latent_channels, *canvas)
            return count_cost(
                module,
                hidden_states=torch.empty(1, count, width) if module.pos_embed is None else z,
                controlnet_cond=z,
                encoder_hidden_states=None
                if module.context_embedder is None
                else torch.empty(1, num_tokens, base.token_width),
                pooled_projections=torch.empty(1, base.pooled_width),
                timestep=torch.empty(1),
            )

    def mismatch(self) -> list[str]:
        """Names of the configuration's values that do not fit the base network's."""
        names = ["in_channels", "patch_size", "num_attention_heads", "attention_head_dim", "pooled_projection_dim"]
        names += [] if self.module.config["joint_attention_dim"] is None else ["joint_attention_dim"]
        inpaints = self.module.config["extra_conditioning_channels"] != 0
        return [*self._differing(*names), *(["extra_conditioning_channels"] if inpaints else [])]
