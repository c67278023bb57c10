"""Unfused LoRAs that apply by region in a diffusion transformer: permanent hooks on the layers they change.

A layer's change is multiplied, token by token, by how much the LoRA counts there: at an image token by its region's
share; at the tokens of a phrase or a reference by its mean where they count; at a text that the whole image attends to,
and in layers that act on the whole image (modulations), by what holds at every image token. A LoRA over all of the
canvas is the fused one. A hook acts only inside :func:`applying_loras`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cloisonne.core.attention.joint import JointLayout
from cloisonne.models.unet.region_lora import Added, Lora

TokenSet: TypeAlias = Literal["image", "text", "all"]
"""Which tokens of the sequence a layer reads: those of the image and of references, those of texts, or all of them."""

_ON_TEXT = re.compile(r"(^|\.)(add_[qkv]_proj|to_add_out|ff_context\..+)$|^context_embedder$")
_ON_WHOLE_IMAGE = re.compile(
    r"(^|\.)(norm\d?(_context)?\.linear|norm_out\.linear|adaLN_modulation\.\d+|\w*modulation\w*\.linear)$"
    r"|^(time_text_embed|time_guidance_embed|t_embedder)\."
)


@dataclass(frozen=True, eq=False)
class SequenceLoras:
    """How much each LoRA counts in one batch row, by name.

    amounts: [S], at each token of the sequence. everywhere: [], what holds at every image token. text: the tokens
    ``start .. stop`` that are text; those of the image and of references are all on one side of them.
    """

    amounts: Mapping[str, Float[Tensor, " S"]]
    everywhere: Mapping[str, Float[Tensor, ""]]
    text: tuple[int, int]

    def at(self, name: str, tokens: TokenSet) -> Float[Tensor, " n"]:
        """How much a LoRA counts at each of these tokens."""
        amount, (start, stop) = self.amounts[name], self.text
        if tokens == "all":
            return amount
        if tokens == "text":
            return amount[start:stop]
        return amount[stop:] if start == 0 else amount[:start]


def sequence_loras(
    pixels: Mapping[str, Float[Tensor, " Q"]], layout: JointLayout, text: tuple[int, int]
) -> SequenceLoras:
    """The amounts of a sequence. pixels: of each LoRA at each image token, its scale times a share."""
    amounts: dict[str, Tensor] = {}
    everywhere: dict[str, Tensor] = {}
    for name, own in pixels.items():
        # The part of it that all image tokens have.
        everywhere[name] = own.min().clamp_min(0) + own.max().clamp_max(0)
        amount = everywhere[name].repeat(layout.length)
        amount[slice(*layout.image)] = own
        for segment in layout.segments:
            if segment.weight is not None and bool(segment.weight.any()):
                weight = segment.weight.to(own)
                amount[segment.start : segment.stop] = (weight * own).sum() / weight.sum()
        amounts[name] = amount
    return SequenceLoras(amounts, everywhere, text)


_APPLIED: ContextVar[SequenceLoras | None] = ContextVar("applied_sequence_loras", default=None)
_FIRST_TEXT_TOKEN: ContextVar[int] = ContextVar("first_text_token", default=0)


@contextmanager
def applying_loras(loras: SequenceLoras | None) -> Iterator[None]:
    """In this context, these LoRAs change the layers of the network."""
    before = _APPLIED.set(loras)
    try:
        yield
    finally:
        _APPLIED.reset(before)


@contextmanager
def text_from(first: int) -> Iterator[None]:
    """In this context, layers that read text get the texts' tokens from number ``first``, in place of all of them."""
    before = _FIRST_TEXT_TOKEN.set(first)
    try:
        yield
    finally:
        _FIRST_TEXT_TOKEN.reset(before)


def tokens_of(layer: str) -> TokenSet:
    """Which tokens a layer of FLUX or Stable Diffusion 3 reads, by its name in diffusers."""
    if layer.startswith("single_transformer_blocks."):
        return "all"
    return "text" if _ON_TEXT.search(layer) else "image"


def acts_on_whole_image(layer: str) -> bool:
    """Whether a layer reads the time and pooled text, not tokens, so that no mask applies to it."""
    return _ON_WHOLE_IMAGE.search(layer) is not None


def install(module: nn.Module, loras: Mapping[str, Lora], tokens: Callable[[str], TokenSet]) -> None:
    """Put hooks on all layers that the LoRAs change."""
    for layer in sorted({layer for lora in loras.values() for layer in lora.layers}):
        own = {name: lora.layers[layer] for name, lora in loras.items() if layer in lora.layers}
        module.get_submodule(layer).register_forward_hook(_change(own, tokens(layer)))


def _change(own: Mapping[str, Added], tokens: TokenSet) -> Callable[..., Tensor | None]:
    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if torch.compiler.is_compiling() or (now := _APPLIED.get()) is None:
            return None
        for name, low in own.items():
            if name not in now.amounts:
                continue
            if output.ndim == 2:
                output = output + now.everywhere[name].to(output.dtype) * low(inputs[0], None, layer)
                continue
            # A convolution makes a map [1, D, h, w] of image tokens; a linear layer reads tokens [1, n, D].
            shape = output.shape[-2:] if output.ndim == 4 else output.shape[1:2]
            first = _FIRST_TEXT_TOKEN.get() if tokens == "text" else 0
            amount = now.at(name, tokens)[first : first + shape.numel()]
            output = output + low(inputs[0], amount.view(1, *shape), layer)
        return output

    return add
