"""Decoder features of a UNet that batch rows share, as the call's attention edits request.

The hooks on the decoder are permanent and act only inside :func:`sharing_features` of the same context, so that several
threads can use one UNet. Compiled code, which runs only where no hook acts, has none of them (``models/compiled.py``).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from cloisonne.core.plan import Call

_PAIRS: ContextVar[tuple[list[int], list[int]] | None] = ContextVar("feature_pairs", default=None)
"""Source rows and target rows."""


def install(unet: UNet2DConditionModel) -> None:
    """Put hooks on the decoder's residual blocks, after all others, so that LoRAs are included. Idempotent."""
    blocks: Any = unet.up_blocks
    for resnet in (resnet for block in blocks for resnet in block.resnets):
        hooks = resnet.conv2._forward_hooks
        for key in [key for key, hook in hooks.items() if hook is _copy_features]:
            del hooks[key]
        resnet.conv2.register_forward_hook(_copy_features)


@contextmanager
def sharing_features(call: Call) -> Iterator[None]:
    """In this context, the decoder's residual blocks add to row b what they add to row a, for each pair (a, b).

    Skip connections and attention remain each row's own.
    """
    pairs = [pair for edit in call.edits for pair in edit.features(call)]
    before = _PAIRS.set(([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None)
    try:
        yield
    finally:
        _PAIRS.reset(before)


def _copy_features(module: Any, args: Any, added: Tensor) -> Tensor | None:
    if torch.compiler.is_compiling() or (pairs := _PAIRS.get()) is None:
        return None
    sources, targets = pairs
    added = added.clone()
    added[targets] = added[sources]
    return added
