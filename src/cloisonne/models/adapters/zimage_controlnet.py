"""ControlNets of Z-Image: residuals behind some of the network's layers, at every step.

The network shares embeddings and refiners with its base, so that its forward pass is written over both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.controlnets.controlnet_z_image import ZImageControlNetModel
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from torch import Tensor

from cloisonne.core.attention.joint_blocks import BlockGroups
from cloisonne.core.control_residuals import BlockPoint, masked
from cloisonne.core.step import Step
from cloisonne.models.adapters.block_controlnet import BlockControlNet, on_grid
from cloisonne.models.cost import Cost, count_cost
from cloisonne.models.mmdit.denoiser import RowInput
from cloisonne.models.mmdit.zimage_network import LAYERS, MULTIPLE, PATCH, JointZImage, LayerAttention, padded, patches
from cloisonne.models.spec import NetSpec


@dataclass(frozen=True, eq=False)
class ZImageControlNet(BlockControlNet):
    """A ZImageControlNetModel. Its residuals are of the image tokens, the padding behind them and the caption."""

    module: ZImageControlNetModel
    base: JointZImage

    @property
    def shares_layers(self) -> bool:
        """Its forward pass takes the base network's embeddings and refiners."""
        return True

    @cached_property
    def point(self) -> BlockPoint:
        """The layers that the configuration names."""
        places = list(self.module.config["control_layers_places"])
        numbers = {place: (k, len(places) + k) for k, place in enumerate(places)}
        return BlockPoint(tuple(numbers.get(i, ()) for i in range(len(self.base.layers))))

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
        """[R, D, h, w] of each layer, then [R, D, L] of the tokens behind the image, filled up to the longest text."""
        rows = [self._row(z[i : i + 1], step, text, image[i : i + 1], weights[i]) for i, text in enumerate(texts)]
        grid = (z.shape[-2] // PATCH, z.shape[-1] // PATCH)
        count = grid[0] * grid[1]
        length = -count % MULTIPLE + self.length + -self.length % MULTIPLE
        levels = [torch.cat(level) for level in zip(*([own[:, :count] for own in row] for row in rows), strict=True)]
        behind = [
            torch.cat([F.pad(own[:, count:], (0, 0, 0, length - own.shape[1] + count)) for own in level])
            for level in zip(*rows, strict=True)
        ]
        return (*(on_grid(level, grid) for level in levels), *(level.transpose(1, 2).float() for level in behind))

    def _row(self, z: Tensor, step: Step, text: Tensor, image: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        """[1, S, D] of each layer. text: [N, D]. image: the control image's latents [1, C, H, W]. weight: [H, W]."""
        base, own, dtype = self.base, self.module, self.base.dtype
        given = RowInput(
            z=z.to(dtype),
            grid=(z.shape[-2] // PATCH, z.shape[-1] // PATCH),
            level=step.s,
            tokens=text[None].to(dtype),
            lengths=(len(text),),
            padding=(-len(text) % MULTIPLE,),
            pooled=None,
            micro={},
            channels=None,
            references=(),
            residuals=(),
            blocks=BlockGroups(),
        )
        network: Any = base
        time, (tokens, turns) = base.time(given), base.image_tokens(given)
        hint = self._hint(image.to(dtype), tokens.shape[1])
        refined: dict[int, Tensor] = {}
        if own.add_control_noise_refiner is not None:
            shared = own.add_control_noise_refiner == "control_layers"
            for layer in own.control_layers if shared else own.control_noise_refiner or ():
                hint = layer(hint, tokens, None, turns, time)
            *added, hint = hint.unbind()
            weights = _token_weights(weight, given.grid, tokens)
            refined = {
                place: level * weights
                for place, level in zip(own.control_refiner_layers_places or (), added, strict=False)
            }
        for i, layer in enumerate(network.noise_refiner):
            tokens = layer(tokens, LayerAttention(), turns, time)
            tokens = tokens + refined[i] if i in refined else tokens
        if own.add_control_noise_refiner is None:
            for layer in own.control_noise_refiner or ():
                hint = layer(hint, None, turns, time)
        ((caption, caption_turns),) = base.text_tokens(given)
        sequence, all_turns = torch.cat([tokens, caption], 1), torch.cat([turns, caption_turns], 1)
        hint = torch.cat([hint, caption], 1)
        for layer in own.control_layers:
            hint = layer(hint, sequence, None, all_turns, time)
        return hint.unbind()[:-1]

    def _hint(self, latents: Tensor, length: int) -> Tensor:
        """The control image's embedded tokens [1, length, D]; further input channels of the network are 0."""
        missing = self.module.config["control_in_dim"] - latents.shape[1]
        tokens = patches(F.pad(latents, (0, 0, 0, 0, 0, missing)))
        embedded = self.module.control_all_x_embedder[LAYERS](tokens)
        return padded(embedded, self.base.x_pad_token, length - embedded.shape[1])

    def cost(self, base: NetSpec, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W) of the base network; nothing is computed."""
        config = self.module.config
        with torch.device("meta"):
            network: Any = ZImageTransformer2DModel.from_config(self.base.config)
            module: Any = ZImageControlNetModel.from_transformer(ZImageControlNetModel.from_config(config), network)
            return count_cost(
                module,
                x=[torch.empty(base.latent_channels, 1, *canvas)],
                t=torch.empty(1),
                cap_feats=[torch.empty(num_tokens, base.token_width)],
                control_context=[torch.empty(config["control_in_dim"], 1, *canvas)],
            )

    def mismatch(self) -> list[str]:
        """Names of the configuration's values that do not fit the base network's."""
        return self._differing("dim", "n_heads", "n_kv_heads", "all_patch_size", "all_f_patch_size")


def _token_weights(weight: Tensor, grid: tuple[int, int], tokens: Tensor) -> Tensor:
    """[1, S, 1]: a weight [H, W] on the grid of image tokens, and its least on the padding."""
    found = masked(torch.ones(1, *grid, device=tokens.device), weight).flatten()
    behind = weight.min().expand(tokens.shape[1] - len(found)).to(found)
    return torch.cat([found, behind])[None, :, None].to(tokens)
