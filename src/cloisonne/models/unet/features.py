"""Features of a UNet's decoder that rows of a batch take from one another, as the call's edits say.

Hooks are put on the decoder once and do nothing but while :func:`sharing_features` is entered in the same context, so
that several threads can use one UNet.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from cloisonne.core.plan import Call

_PAIRS: ContextVar[tuple[list[int], list[int]] | None] = ContextVar("feature_pairs", default=None)
"""Rows that features are taken from, and rows that take them."""


def install(unet: UNet2DConditionModel) -> None:
    """Hooks on the decoder's residual blocks, behind all others: LoRAs change what is taken. Any number of calls."""
    blocks: Any = unet.up_blocks
    for resnet in (resnet for block in blocks for resnet in block.resnets):
        hooks = resnet.conv2._forward_hooks
        for key in [key for key, hook in hooks.items() if hook is _taken]:
            del hooks[key]
        resnet.conv2.register_forward_hook(_taken)


@contextmanager
def sharing_features(call: Call) -> Iterator[None]:
    """While the UNet runs, what its decoder's residual blocks add to b is what they add to a, for all pairs (a, b).

    Skips and attention stay each row's own.
    """
    pairs = [pair for edit in call.edits for pair in edit.features(call)]
    before = _PAIRS.set(([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None)
    try:
        yield
    finally:
        _PAIRS.reset(before)


def _taken(module: Any, args: Any, added: Tensor) -> Tensor | None:
    if (pairs := _PAIRS.get()) is None:
        return None
    sources, targets = pairs
    added = added.clone()
    added[targets] = added[sources]
    return added
