"""Cross-attention told where to look: while training, pixels that show an item attend to the tokens about it.

Text alone teaches a small network very slowly where things are; the drawn truth says it directly (the idea of the
grounding loss of TokenCompose, arXiv 2312.03626, eq. 3, over whole regions). Nothing of it is left after training.
"""

import threading
from typing import Any

import torch.nn.functional as F
from torch import Tensor

ITEMS = 4
"""Most items of a picture."""


class Seen(threading.local):
    """What layers leave behind in a forward pass; each thread has its own."""

    def __init__(self) -> None:
        self.all: list[Tensor] = []


class Recorder:
    """A cross-attention processor that computes its probabilities and keeps their mean over half of the heads.

    The other heads stay free to look elsewhere.
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
    """Install recorders on the cross-attention layers; ``all`` receives [R, Q, L] of each layer at every forward."""
    seen = Seen()
    processors = {name: Recorder(seen) if "attn2" in name else p for name, p in unet.attn_processors.items()}
    unet.set_attn_processor(processors)
    return seen


def grounding_loss(seen: list[Tensor], owners: Tensor, items: Tensor, placed: Tensor) -> Tensor:
    """Cross-entropy between what a pixel shows and the attention it gives to the tokens about each item.

    seen: [R, Q, L] a layer; owners: [R, L], k + 1 for a token about item k; items: [R, 1 + 4, h, w], what each latent
    cell shows (0 nothing); placed: [R], the rows that count. Pixels of nothing weigh 0.3.
    """
    told = F.one_hot(owners, 1 + ITEMS).float()
    total = items.new_zeros(())
    for attention in seen:
        side = round(attention.shape[1] ** 0.5)
        target = F.adaptive_avg_pool2d(items, side).flatten(2).transpose(1, 2)
        weight = target * target.new_tensor([0.3] + [1.0] * ITEMS) * placed[:, None, None]
        total = total - (weight * (attention @ told + 1e-3).log()).sum() / weight.sum().clamp(min=1)
    return total / len(seen)
