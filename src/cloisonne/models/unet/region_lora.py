"""Unfused LoRAs that apply by region: permanent hooks on the layers they change.

A hook acts only inside :func:`applying_loras` of a call that names its LoRA (see ``core/region_lora.py``).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from cloisonne.core.plan import Call
from cloisonne.core.region_lora import BatchLoras, LoraScales
from cloisonne.errors import CapabilityError


@dataclass(frozen=True, eq=False)
class LowRank:
    """A low-rank change of one layer, before scaling: down [r, C] or [r, C, k, k], then up [C', r] or [C', r, 1, 1]."""

    down: Tensor
    up: Tensor

    def __call__(self, x: Tensor, amount: Tensor | None, layer: nn.Module) -> Tensor:
        """The change of the layer's output for the input x.

        amount: the scale at each output pixel, [R, h, w] for a convolution, else [R, Q] or None for 1.
        """
        if isinstance(layer, nn.Conv2d):
            assert amount is not None, "convolutions read pixels"
            low = layer._conv_forward(x, self.down, None)  # dilated where the layer is
            return F.conv2d(low * amount[:, None].to(x.dtype), self.up)
        low = F.linear(x, self.down)
        return F.linear(low if amount is None else low * amount[..., None].to(x.dtype), self.up)

    def to(self, device: torch.device, dtype: torch.dtype) -> "LowRank":
        """A copy on this device, in this dtype."""
        return LowRank(self.down.to(device, dtype), self.up.to(device, dtype))

    @property
    def parameters(self) -> int:
        """The number of its parameters."""
        return self.down.numel() + self.up.numel()


@dataclass(frozen=True, eq=False)
class Dense:
    """A full change of one layer, before scaling: a weight of the layer's shape, and a bias [C'] or None."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor, amount: Tensor | None, layer: nn.Module) -> Tensor:
        """As for :class:`LowRank`."""
        if isinstance(layer, nn.Conv2d):
            assert amount is not None, "convolutions read pixels"
            added = layer._conv_forward(x, self.weight, self.bias)
            return added * amount[:, None].to(x.dtype)
        added = F.linear(x, self.weight, self.bias)
        return added if amount is None else added * amount[..., None].to(x.dtype)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Dense":
        """A copy on this device, in this dtype."""
        return Dense(self.weight.to(device, dtype), None if self.bias is None else self.bias.to(device, dtype))

    @property
    def parameters(self) -> int:
        """The number of its parameters."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())


Added: TypeAlias = LowRank | Dense


@dataclass(frozen=True, eq=False)
class Lora:
    """A LoRA by region.

    layers: its changes, by the network's layer names. words: whether its file also changes text encoders, which is not
    applied. warnings: what of its file is not used, one sentence each. whole: how many layers act on the whole image.
    """

    layers: Mapping[str, Added]
    words: bool = False
    warnings: tuple[str, ...] = ()
    whole: int = 0

    def to(self, device: torch.device, dtype: torch.dtype) -> "Lora":
        """A copy on this device, in this dtype."""
        return replace(self, layers={name: low.to(device, dtype) for name, low in self.layers.items()})

    @property
    def parameters(self) -> int:
        """The number of its parameters."""
        return sum(low.parameters for low in self.layers.values())


@dataclass(frozen=True, eq=False)
class _Applied:
    """The LoRAs of one call. time_inputs: inputs of ``time_emb_proj``, by residual block, until its second norm."""

    loras: BatchLoras
    canvas: tuple[int, int]
    time_inputs: dict[str, Tensor] = field(default_factory=dict)


_APPLIED: ContextVar[_Applied | None] = ContextVar("applied_loras", default=None)


@contextmanager
def applying_loras(call: Call) -> Iterator[None]:
    """In this context, the call's LoRAs change the UNet's layers inside their masks."""
    if call.loras is None:
        yield
        return
    before = _APPLIED.set(_Applied(call.loras, (call.z.shape[-2], call.z.shape[-1])))
    try:
        yield
    finally:
        _APPLIED.reset(before)


def reads_text(layer: str) -> bool:
    """Whether a layer's input is text: keys and values of cross-attention, which the attention processor changes."""
    return layer.endswith((".attn2.to_k", ".attn2.to_v"))


def unmaskable(unet: UNet2DConditionModel, layers: Sequence[str]) -> str | None:
    """The first of the layers that acts on the whole image, so that no mask applies to it; None if there is none."""
    added_to_pixels = unet.config["resnet_time_scale_shift"] == "default"
    for name in layers:
        timed = name.endswith(".time_emb_proj")
        if name.startswith(("time_embedding.", "add_embedding.", "class_embedding.")) or (
            timed and not added_to_pixels
        ):
            return name
    return None


def install(unet: UNet2DConditionModel, loras: Mapping[str, Lora]) -> None:
    """Put hooks on all layers that the LoRAs change, except those that read text."""
    for layer in sorted({layer for lora in loras.values() for layer in lora.layers}):
        own = {name: lora.layers[layer] for name, lora in loras.items() if layer in lora.layers}
        if layer.endswith(".time_emb_proj"):
            module = unet.get_submodule(layer)
            resnet = layer.rpartition(".")[0]
            module.register_forward_hook(_time_input_recorder(resnet))
            unet.get_submodule(f"{resnet}.norm2").register_forward_pre_hook(_time_change(resnet, own, module))
        elif not reads_text(layer):
            unet.get_submodule(layer).register_forward_hook(_output_change(own))


def with_text(out: Tensor, tokens: Tensor, loras: Sequence[LoraScales], own: Mapping[str, Added], layer: Any) -> Tensor:
    """Keys or values [T, N, C] of texts [T, N, D], each with the changes of its own LoRAs."""
    if not any(name in own for scaled in loras for name, _ in scaled):
        return out
    changed = []
    for value, text, scaled in zip(out, tokens, loras, strict=True):
        deltas = [scale * own[name](text, None, layer) for name, scale in scaled if name in own]
        changed.append(value + sum(deltas) if deltas else value)
    return torch.stack(changed)


def grid_of(pixels: int, canvas: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the feature map of this many pixels: the canvas, repeatedly halved, rounding up."""
    height, width = canvas
    while height * width > pixels:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    if height * width != pixels:
        raise CapabilityError(f"A feature map of {pixels} pixels is no halving of the latent canvas {canvas}.")
    return height, width


def _output_change(own: Mapping[str, Added]) -> Callable[..., Tensor | None]:
    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if torch.compiler.is_compiling() or (now := _APPLIED.get()) is None:
            return None
        flat = output.ndim == 3
        grid = grid_of(output.shape[1], now.canvas) if flat else (output.shape[-2], output.shape[-1])
        for name, low in own.items():
            if name in now.loras.names:
                amount = now.loras.amount(name, grid)
                output = output + low(inputs[0], amount.flatten(1) if flat else amount, layer)
        return output

    return add


def _time_input_recorder(resnet: str) -> Callable[..., None]:
    def record(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if not torch.compiler.is_compiling() and (now := _APPLIED.get()) is not None:
            now.time_inputs[resnet] = inputs[0]

    return record


def _time_change(resnet: str, own: Mapping[str, Added], layer: nn.Module) -> Callable[..., tuple[Tensor] | None]:
    """Add the change of a block's timestep embedding before its second norm, where the block adds the embedding."""

    def add(norm: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor] | None:
        if torch.compiler.is_compiling() or (now := _APPLIED.get()) is None:
            return None
        x, time = inputs[0], now.time_inputs.pop(resnet)
        for name, low in own.items():
            if name in now.loras.names:
                amount = now.loras.amount(name, (x.shape[-2], x.shape[-1]))
                x = x + low(time, None, layer)[:, :, None, None] * amount[:, None].to(x.dtype)
        return (x,)

    return add
