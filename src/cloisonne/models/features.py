"""Features of a UNet's decoder that rows of a batch take from one another, as the call's edits say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from cloisonne.core.plan import Call


@contextmanager
def sharing_features(unet: UNet2DConditionModel, call: Call) -> Iterator[None]:
    """While the UNet is asked, what its decoder's residual blocks add to b is what they add to a, for all pairs (a, b).

    Skips and attention stay each row's own. Without pairs nothing is hooked.
    """
    pairs = [pair for edit in call.edits for pair in edit.features(call)]
    if not pairs:
        yield
        return
    sources, targets = (list(rows) for rows in zip(*pairs, strict=True))

    def taken(module: Any, args: Any, added: Tensor) -> Tensor:
        added = added.clone()
        added[targets] = added[sources]
        return added

    blocks: Any = unet.up_blocks
    hooks = [resnet.conv2.register_forward_hook(taken) for block in blocks for resnet in block.resnets]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
