"""Grounding loss on cross-attention: pixels of an item are trained to attend to the tokens that describe it.

From text alone a small network learns positions very slowly; the ground truth of the rendered images supervises them
directly (after the grounding loss of TokenCompose, arXiv 2312.03626, eq. 3, over whole regions). Only training uses it.
"""

import threading
from typing import Any

import torch.nn.functional as F
from torch import Tensor

ITEMS = 4
"""Maximum number of items in an image."""


class Seen(threading.local):
    """Tensors recorded by layers in a forward pass, per thread."""

    def __init__(self) -> None:
        self.all: list[Tensor] = []


class Recorder:
    """A cross-attention processor that records the mean attention probabilities of half of its heads.

    The grounding loss does not constrain the other heads.
    """

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        rows, pixels = hidden_states.shape[:2]
        q, k, v = (
            x.view(rows, -1, attn.heads, x.shape[-1] // attn.heads).transpose(1, 2)
            for x in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        p = (q @ k.transpose(-1, -2) * attn.scale).float().softmax(-1)
        self._seen.all.append(p[:, : (attn.heads + 1) // 2].mean(1))
        out = (p.to(v.dtype) @ v).transpose(1, 2).reshape(rows, pixels, -1)
        return attn.to_out[1](attn.to_out[0](out))


def record(unet: Any) -> Seen:
    """Install recorders on the cross-attention layers; each forward pass appends [R, Q, L] per layer to ``all``."""
    seen = Seen()
    processors = {name: Recorder(seen) if "attn2" in name else p for name, p in unet.attn_processors.items()}
    unet.set_attn_processor(processors)
    return seen


def grounding_loss(seen: list[Tensor], owners: Tensor, items: Tensor, placed: Tensor) -> Tensor:
    """Cross-entropy between the item at a pixel and the attention of the pixel to the tokens of each item.

    Args:
        seen: Attention probabilities [R, Q, L] per layer.
        owners: [R, L]: k + 1 for a token that describes item k, else 0.
        items: [R, 1 + 4, h, w]: the item in each latent cell, one-hot; 0 is none.
        placed: [R]: weight of each batch row. Pixels without an item weigh 0.3.
    """
    tokens_of_item = F.one_hot(owners, 1 + ITEMS).float()
    total = items.new_zeros(())
    for attention in seen:
        side = round(attention.shape[1] ** 0.5)
        target = F.adaptive_avg_pool2d(items, side).flatten(2).transpose(1, 2)
        weight = target * target.new_tensor([0.3] + [1.0] * ITEMS) * placed[:, None, None]
        total = total - (weight * (attention @ tokens_of_item + 1e-3).log()).sum() / weight.sum().clamp(min=1)
    return total / len(seen)
