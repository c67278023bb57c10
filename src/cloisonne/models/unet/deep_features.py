"""Deep features of a UNet, reused between steps (DeepCache, arXiv 2312.00858).

The deep features are the input of the last residual block of the decoder, without its skip connection. A pass that
reuses them runs the input layer, that block with its attention, and the output layers. The wrappers of the blocks are
permanent and act only inside :func:`reusing` of the same context, so that several threads can use one UNet.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from cloisonne.core.run import DeepFeatures

_NOW: ContextVar[DeepFeatures | None] = ContextVar("deep_features", default=None)

Forward = Callable[..., Any]


def has_deep_features(unet: UNet2DConditionModel) -> bool:
    """Whether the decoder ends with a block whose features can be reused: those of Stable Diffusion do."""
    blocks: Any = unet.up_blocks
    return len(blocks) > 1 and isinstance(blocks[-1], CrossAttnUpBlock2D | UpBlock2D)


def channels(unet: UNet2DConditionModel) -> int:
    """Channels of the deep features."""
    blocks: Any = unet.up_blocks
    resnet = blocks[-1].resnets[-1]
    return resnet.in_channels - resnet.out_channels


def install(unet: UNet2DConditionModel) -> None:
    """Wrap the blocks of a UNet that has deep features. Idempotent."""
    if not has_deep_features(unet):
        return
    down, up, mid = (list[Any](unet.down_blocks), list[Any](unet.up_blocks), unet.mid_block)
    for block in down:
        _wrap(block, _skipped_down)
    for block in [*up[:-1], *([] if mid is None else [mid])]:
        _wrap(block, _skipped)
    _wrap(up[-1], _last_layer)
    if not any(hook is _record for hook in up[-1].resnets[-1]._forward_pre_hooks.values()):
        up[-1].resnets[-1].register_forward_pre_hook(_record)


@contextmanager
def reusing(features: DeepFeatures | None) -> Iterator[bool]:
    """In this context, reuse the features if they have a value, else keep those of the pass. Yields which."""
    before = _NOW.set(features)
    try:
        yield features is not None and features.value is not None
    finally:
        _NOW.reset(before)


def _reused() -> Tensor | None:
    now = _NOW.get()
    return None if now is None else now.value


def _wrap(block: Any, instead: Callable[..., Any]) -> None:
    """Call ``instead(block, *args, **given)`` in place of the block where features are reused."""
    plain: Forward = block.forward
    if hasattr(plain, "without_reuse"):
        return

    def forward(*args: Any, **given: Any) -> Any:
        return plain(*args, **given) if _reused() is None else instead(block, *args, **given)

    forward.without_reuse = plain  # pyright: ignore[reportFunctionMemberAccess]
    block.forward = forward


def _skipped_down(block: Any, hidden_states: Tensor, *args: Any, **given: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """In place of a block of the encoder: a zero for each output, to which residuals can be added."""
    zero = hidden_states.new_zeros(1, 1, 1, 1)
    count = len(block.resnets) + (0 if block.downsamplers is None else len(block.downsamplers))
    return zero, (zero,) * count


def _skipped(block: Any, hidden_states: Tensor, *args: Any, **given: Any) -> Tensor:
    return hidden_states


def _last_layer(
    block: Any,
    hidden_states: Tensor,
    temb: Tensor,
    res_hidden_states_tuple: tuple[Tensor, ...],
    encoder_hidden_states: Tensor | None = None,
    cross_attention_kwargs: dict[str, Any] | None = None,
    **given: Any,
) -> Tensor:
    """The last residual block of the decoder and its attention, from the features that are reused."""
    deep = _reused()
    assert deep is not None, "called only where features are reused"
    hidden = block.resnets[-1](torch.cat([deep, res_hidden_states_tuple[0]], dim=1), temb)
    if getattr(block, "attentions", None) is None:
        return hidden
    return block.attentions[-1](
        hidden,
        encoder_hidden_states=encoder_hidden_states,
        cross_attention_kwargs=cross_attention_kwargs,
        return_dict=False,
    )[0]


def _record(resnet: Any, inputs: tuple[Any, ...]) -> None:
    """Keep the input of the last residual block, without its skip connection, which is the last half of its channels.

    The skip connection is the output of the input layer, which has as many channels as the block's output.
    """
    now = _NOW.get()
    if now is not None and now.value is None:
        whole: Tensor = inputs[0]
        now.value = whole[:, : whole.shape[1] - resnet.out_channels].clone()
