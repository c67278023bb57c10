"""Z-Image's network with joint attention by region: diffusers' layers in a forward pass of several texts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from torch import Tensor

from cloisonne.core.attention.joint import QueryGroup
from cloisonne.core.attention.joint_blocks import BlockGroups
from cloisonne.models.mmdit.denoiser import JointAttention, RowInput
from cloisonne.models.mmdit.packing import packed, unpacked
from cloisonne.models.mmdit.region_lora import text_from

MULTIPLE = 32
"""The network pads the image and a text to multiples of so many tokens, which it attends to."""
PATCH = 2
"""Side of the square of latent pixels that is one image token."""
LAYERS = f"{PATCH}-1"
"""The name of the layers of this patch in a network."""


@dataclass(frozen=True, eq=False)
class LayerAttention:
    """Who attends to whom in one layer."""

    blocks: BlockGroups = field(default_factory=BlockGroups)
    layer: int = 0

    def __call__(self, attend: JointAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[B, heads, S, d] of q, k, v of this size."""
        return self.blocks.attend(attend, q, k, v, self.layer)


class JointZImage(ZImageTransformer2DModel):
    """diffusers' network, whose forward pass takes a row of a call in place of batches of images and texts.

    The sequence is [image, padding, caption, padding, phrases]. Texts are refined one by one. The positions of each
    text begin at 1; the image comes after the caption.
    """

    def forward(self, given: RowInput) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The network's own output, ``x0 - n`` [1, C, H, W], at time 1 - s."""
        own: Any = self
        time = self.time(given)
        image, image_turns = self.image_tokens(given)
        within = LayerAttention(BlockGroups(image_groups(given.refining, image.shape[1])))
        for layer in own.noise_refiner:
            image = layer(image, within, image_turns, time)
        # The refiners compute all image tokens, the layers of the joint sequence some of them.
        image, image_turns = given.some(image), given.some(image_turns)
        texts = self.text_tokens(given)
        sequence = torch.cat([image, *(text for text, _ in texts)], 1)
        turns = torch.cat([image_turns, *(own_turns for _, own_turns in texts)], 1)
        for i, layer in enumerate(own.layers):
            sequence = layer(sequence, LayerAttention(given.blocks, i), turns, time)
            if given.residuals and (added := given.residuals[i]) is not None:
                shared = min(added.shape[1], sequence.shape[1])
                sequence = torch.cat([sequence[:, :shared] + added[:, :shared], sequence[:, shared:]], 1)
        output = own.all_final_layer[LAYERS](sequence, c=time)
        tokens = given.whole(output)
        return unpacked(tokens.unflatten(-1, (PATCH**2, -1)).transpose(-1, -2).flatten(-2), given.grid, PATCH)

    def time(self, given: RowInput) -> Tensor:
        """[1, D]: the embedded time 1 - s."""
        own: Any = self
        level = torch.tensor([1 - given.level], device=given.z.device)
        return own.t_embedder(level * own.t_scale).to(given.z.dtype)

    def image_tokens(self, given: RowInput) -> tuple[Tensor, Tensor]:
        """Embedded image tokens with their padding [1, Q, D], and their rotations."""
        own: Any = self
        image = own.all_x_embedder[LAYERS](patches(given.z))
        padding = -image.shape[1] % MULTIPLE
        after_caption = given.lengths[0] + given.padding[0] + 1
        axes = [torch.tensor([after_caption]), *(torch.arange(side) for side in given.grid)]
        positions = torch.cat([torch.cartesian_prod(*axes), torch.zeros(padding, 3, dtype=torch.long)])
        return padded(image, own.x_pad_token, padding), self._turns(positions, image.device)

    def text_tokens(self, given: RowInput) -> list[tuple[Tensor, Tensor]]:
        """Each text, embedded, padded and refined alone, with its rotations."""
        own: Any = self
        found: list[tuple[Tensor, Tensor]] = []
        first = 0
        for tokens, padding in zip(given.tokens.split(list(given.lengths), 1), given.padding, strict=True):
            with text_from(first):
                text = padded(own.cap_embedder(tokens), own.cap_pad_token, padding)
                positions = torch.zeros(text.shape[1], 3, dtype=torch.long)
                positions[:, 0] = torch.arange(1, text.shape[1] + 1)
                turns = self._turns(positions, text.device)
                for layer in own.context_refiner:
                    text = layer(text, LayerAttention(), turns)
            found.append((text, turns))
            first += text.shape[1]
        return found

    def _turns(self, positions: Tensor, device: torch.device) -> Tensor:
        """[1, S, d / 2] complex: the rotation of each pair of a head's numbers."""
        own: Any = self
        return own.rope_embedder(positions.to(device))[None]


def image_groups(groups: Sequence[QueryGroup], count: int) -> tuple[QueryGroup, ...]:
    """Groups within the first ``count`` tokens, the image and its padding; () where nothing is masked there."""
    found = [QueryGroup(own.queries[own.queries < count], own.keys[own.keys < count]) for own in groups]
    found = [own for own in found if len(own.queries)]
    return tuple(found) if any(len(own.keys) < count for own in found) else ()


class ZImageProcessor:
    """A diffusers attention processor that takes a LayerAttention in place of a mask."""

    def __init__(self, attend: JointAttention) -> None:
        self._attend = attend

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: LayerAttention = LayerAttention(),
        freqs_cis: Tensor | None = None,
    ) -> Tensor:
        """[1, S, D] to the same."""
        layers = (attn.to_q, attn.to_k, attn.to_v)
        q, k, v = (layer(hidden_states).unflatten(-1, (attn.heads, -1)) for layer in layers)
        if attn.norm_q is not None:
            q, k = attn.norm_q(q), attn.norm_k(k)
        if freqs_cis is not None:
            q, k = _turned(q, freqs_cis), _turned(k, freqs_cis)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = attention_mask(self._attend, q, k, v).transpose(1, 2).flatten(2)
        # to_out is a projection and a dropout.
        return attn.to_out[0](out)


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """[1, S, heads, d] rotated."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns[:, :, None]).flatten(-2).to(x)


def patches(z: Tensor) -> Tensor:
    """[B, Q, C * 4] of latents [B, C, H, W]; channels are last in each token."""
    return packed(z, PATCH).unflatten(-1, (-1, PATCH**2)).transpose(-1, -2).flatten(-2)


def padded(tokens: Tensor, pad: Tensor, count: int) -> Tensor:
    """Tokens [B, S, D] and ``count`` further ones, each ``pad`` [1, D]."""
    return torch.cat([tokens, pad[None].expand(1, count, -1).to(tokens)], 1)
