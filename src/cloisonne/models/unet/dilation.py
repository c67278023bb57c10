"""Dilated convolutions for canvases larger than a UNet was trained on (ScaleCrafter, arXiv 2310.07702).

On a larger canvas the deep layers see a smaller part of an object than in training, and put several objects where one
was asked for. Convolutions of these layers take their pixels ``factor`` times as far apart, so that each sees as much
of the image as in training. The hooks are permanent and act only inside :func:`dilating` of the same context, so that
several threads can use one UNet.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

DEEP = 8
"""Levels of the UNet whose native grid has at most this side are deep, and always the last level: the last of Stable
Diffusion, whose native latents have a side of 64, and the last two of the built-in family's three."""

_FACTOR: ContextVar[int] = ContextVar("dilation", default=1)


def dilation_of(scale: float) -> int:
    """The whole factor for a canvas ``scale`` times as wide and high as in training; from 1.5 on it dilates."""
    return max(math.floor(scale + 0.5), 1)


@contextmanager
def dilating(factor: int) -> Iterator[None]:
    """In this context, the deep convolutions are dilated by a factor; 1 changes nothing."""
    before = _FACTOR.set(factor)
    try:
        yield
    finally:
        _FACTOR.reset(before)


def deep_convolutions(unet: UNet2DConditionModel) -> list[nn.Conv2d]:
    """The convolutions of the residual blocks of the deep levels."""
    down, up = (list[Any](blocks) for blocks in (unet.down_blocks, unet.up_blocks))
    last, side = len(down) - 1, int(unet.config["sample_size"] or 0)
    deep = [level for level in range(len(down)) if level == last or side / 2**level <= DEEP]
    blocks = [*(down[level] for level in deep), unet.mid_block, *(up[last - level] for level in reversed(deep))]
    resnets = [resnet for block in blocks if block is not None for resnet in block.resnets]
    return [conv for resnet in resnets for conv in (resnet.conv1, resnet.conv2) if isinstance(conv, nn.Conv2d)]


def install(unet: UNet2DConditionModel) -> None:
    """Let the deep convolutions follow :func:`dilating`. Idempotent."""
    for conv in deep_convolutions(unet):
        conv._conv_forward = partial(_convolved, conv)  # type: ignore[method-assign]


def _convolved(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    factor = 1 if torch.compiler.is_compiling() else _FACTOR.get()
    if factor == 1:
        return nn.Conv2d._conv_forward(conv, x, weight, bias)
    padding, dilation = ([factor * int(side) for side in sides] for sides in (conv.padding, conv.dilation))
    return F.conv2d(x, weight, bias, conv.stride, padding, dilation, conv.groups)
