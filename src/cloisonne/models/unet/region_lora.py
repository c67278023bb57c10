"""LoRAs that are held beside a UNet and count where a call says: hooks on the layers they change, put there once.

A hook does nothing but while :func:`counting` is entered with a call that names its LoRA (see ``core/region_lora.py``).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
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
    """What is added to one layer, times a scale: down [r, C] or [r, C, k, k], then up [C', r] or [C', r, 1, 1]."""

    down: Tensor
    up: Tensor

    def __call__(self, x: Tensor, amount: Tensor | None, layer: nn.Module) -> Tensor:
        """What is added to the layer's output on x; amount: [R, h, w] (of the output), for a convolution, else
        [R, Q] or None for 1."""
        if isinstance(layer, nn.Conv2d):
            assert amount is not None, "convolutions read pixels"
            low = F.conv2d(x, self.down, None, layer.stride, layer.padding, layer.dilation)
            return F.conv2d(low * amount[:, None].to(x.dtype), self.up)
        low = F.linear(x, self.down)
        return F.linear(low if amount is None else low * amount[..., None].to(x.dtype), self.up)

    def to(self, device: torch.device, dtype: torch.dtype) -> "LowRank":
        """The same elsewhere."""
        return LowRank(self.down.to(device, dtype), self.up.to(device, dtype))

    @property
    def parameters(self) -> int:
        """Its numbers."""
        return self.down.numel() + self.up.numel()


@dataclass(frozen=True, eq=False)
class Dense:
    """What is added to one layer, times a scale: a weight of the layer's own shape, and a bias [C'] or None."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor, amount: Tensor | None, layer: nn.Module) -> Tensor:
        """As of :class:`LowRank`."""
        if isinstance(layer, nn.Conv2d):
            assert amount is not None, "convolutions read pixels"
            added = F.conv2d(x, self.weight, self.bias, layer.stride, layer.padding, layer.dilation)
            return added * amount[:, None].to(x.dtype)
        added = F.linear(x, self.weight, self.bias)
        return added if amount is None else added * amount[..., None].to(x.dtype)

    def to(self, device: torch.device, dtype: torch.dtype) -> "Dense":
        """The same elsewhere."""
        return Dense(self.weight.to(device, dtype), None if self.bias is None else self.bias.to(device, dtype))

    @property
    def parameters(self) -> int:
        """Its numbers."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())


Added: TypeAlias = LowRank | Dense


@dataclass(frozen=True, eq=False)
class Lora:
    """layers: of the UNet, by their names. words: whether its file changes text encoders too, which is not heard.
    warnings: what of its file is not used, one sentence each."""

    layers: Mapping[str, Added]
    words: bool = False
    warnings: tuple[str, ...] = ()

    def to(self, device: torch.device, dtype: torch.dtype) -> "Lora":
        """The same elsewhere."""
        return Lora({name: low.to(device, dtype) for name, low in self.layers.items()}, self.words, self.warnings)

    @property
    def parameters(self) -> int:
        """Its numbers."""
        return sum(low.parameters for low in self.layers.values())


@dataclass(frozen=True, eq=False)
class _Counting:
    """One call. late: inputs of layers whose output is spread over pixels, until the layer that reads it."""

    loras: BatchLoras
    canvas: tuple[int, int]
    late: dict[str, Tensor] = field(default_factory=dict)


_COUNTING: ContextVar[_Counting | None] = ContextVar("counting", default=None)


@contextmanager
def counting(call: Call) -> Iterator[None]:
    """While the UNet is asked, its layers are changed where the call's LoRAs count."""
    if call.loras is None:
        yield
        return
    before = _COUNTING.set(_Counting(call.loras, (call.z.shape[-2], call.z.shape[-1])))
    try:
        yield
    finally:
        _COUNTING.reset(before)


def reads_text(layer: str) -> bool:
    """Whether a layer's input is text: keys and values of cross-attention, which their processor changes."""
    return layer.endswith((".attn2.to_k", ".attn2.to_v"))


def unmaskable(unet: UNet2DConditionModel, layers: Sequence[str]) -> str | None:
    """The first of the layers whose output belongs to no place in the picture, if any."""
    spread = unet.config["resnet_time_scale_shift"] == "default"
    for name in layers:
        timed = name.endswith(".time_emb_proj")
        if name.startswith(("time_embedding.", "add_embedding.", "class_embedding.")) or (timed and not spread):
            return name
    return None


def install(unet: UNet2DConditionModel, loras: Mapping[str, Lora]) -> None:
    """Hooks on all layers that read pixels and that any of the LoRAs changes."""
    for layer in sorted({layer for lora in loras.values() for layer in lora.layers}):
        own = {name: lora.layers[layer] for name, lora in loras.items() if layer in lora.layers}
        if layer.endswith(".time_emb_proj"):
            module = unet.get_submodule(layer)
            resnet = layer.rpartition(".")[0]
            module.register_forward_hook(_noting(resnet))
            unet.get_submodule(f"{resnet}.norm2").register_forward_pre_hook(_spreading(resnet, own, module))
        elif not reads_text(layer):
            unet.get_submodule(layer).register_forward_hook(_adding(own))


def with_text(out: Tensor, tokens: Tensor, loras: Sequence[LoraScales], own: Mapping[str, Added], layer: Any) -> Tensor:
    """Keys or values [T, N, C] of texts [T, N, D], each with the changes that it is heard with."""
    if not any(name in own for scaled in loras for name, _ in scaled):
        return out
    changed = []
    for value, text, scaled in zip(out, tokens, loras, strict=True):
        deltas = [scale * own[name](text, None, layer) for name, scale in scaled if name in own]
        changed.append(value + sum(deltas) if deltas else value)
    return torch.stack(changed)


def grid_of(pixels: int, canvas: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the feature map with so many pixels: the canvas, halved (rounding up) some times."""
    height, width = canvas
    while height * width > pixels:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    if height * width != pixels:
        raise CapabilityError(f"A feature map of {pixels} pixels is no halving of the latent canvas {canvas}.")
    return height, width


def _adding(own: Mapping[str, Added]) -> Callable[..., Tensor | None]:
    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if (now := _COUNTING.get()) is None:
            return None
        flat = output.ndim == 3
        grid = grid_of(output.shape[1], now.canvas) if flat else (output.shape[-2], output.shape[-1])
        for name, low in own.items():
            if name in now.loras.names:
                amount = now.loras.amount(name, grid)
                output = output + low(inputs[0], amount.flatten(1) if flat else amount, layer)
        return output

    return add


def _noting(resnet: str) -> Callable[..., None]:
    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if (now := _COUNTING.get()) is not None:
            now.late[resnet] = inputs[0]

    return note


def _spreading(resnet: str, own: Mapping[str, Added], layer: nn.Module) -> Callable[..., tuple[Tensor] | None]:
    """What a block adds to all pixels, its embedding of time, reaches them just before its second norm."""

    def spread(norm: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor] | None:
        if (now := _COUNTING.get()) is None:
            return None
        x, time = inputs[0], now.late.pop(resnet)
        for name, low in own.items():
            if name in now.loras.names:
                amount = now.loras.amount(name, (x.shape[-2], x.shape[-1]))
                x = x + low(time, None, layer)[:, :, None, None] * amount[:, None].to(x.dtype)
        return (x,)

    return spread
