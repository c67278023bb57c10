"""Attention of rows that share their probabilities: one softmax for the values of them all (ours)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

AT_ONCE = 1 << 19
"""Most probabilities that exist at a time on a CPU: what stays in a core's cache."""


def shared_softmax(
    q: Float[Tensor, "R heads Q d"],
    k: Float[Tensor, "R heads K d"],
    v: Float[Tensor, "R heads K e"],
    pairs: Sequence[tuple[int, int]],
    *,
    cross: bool,
) -> Float[Tensor, "R Q C"]:
    """[R, Q, heads * d]: attention of all rows, where b of a pair (a, b) takes a's probabilities.

    q: [R, heads, Q, d]; k, v: [R, heads, K, d]. Memory is O(Q d + K d): on a CPU a block of probabilities at a time is
    made and used for the values of every row that shares it; elsewhere, and in half precision, the fused kernel sees
    two rows' values side by side, queries and keys padded with zeros to that width, for which it asks. Over a few words
    (``cross``) the softmax is cheap and padding is not: row by row.
    """
    leader = {b: a for a, b in pairs}
    groups: dict[int, list[int]] = {}
    for i in range(len(q)):
        groups.setdefault(leader.get(i, i), []).append(i)
    out = q.new_empty(len(q), q.shape[2], q.shape[1] * v.shape[-1])
    by_blocks = q.device.type == "cpu" and q.dtype == torch.float32
    for first, rows in groups.items():
        if by_blocks and len(rows) > 1:
            _by_blocks(q[first], k[first], v, rows, out)
            continue
        width = 1 if cross or by_blocks else 2
        for start in range(0, len(rows), width):
            _fused(q[first], k[first], v, rows[start : start + width], out)
    return out


def _by_blocks(
    q: Float[Tensor, "heads Q d"],
    k: Float[Tensor, "heads K d"],
    v: Float[Tensor, "R heads K e"],
    rows: Sequence[int],
    out: Float[Tensor, "R Q C"],
) -> None:
    """Some heads and queries at a time, as many as ``AT_ONCE`` allows."""
    heads, queries, width = q.shape
    length, own = k.shape[1], v.shape[-1]
    scaled, keys = q * width**-0.5, k.transpose(1, 2)
    wide = torch.cat([v[i] for i in rows], -1)
    block = max(1, min(queries, AT_ONCE // length))
    some = max(1, min(heads, AT_ONCE // (length * block)))
    for h in range(0, heads, some):
        for at in range(0, queries, block):
            p = torch.softmax(scaled[h : h + some, at : at + block] @ keys[h : h + some], -1)
            part = p @ wide[h : h + some]
            for place, i in enumerate(rows):
                into = out[i].view(queries, heads, own)[at : at + block, h : h + some]
                into.copy_(part[..., place * own : (place + 1) * own].transpose(0, 1))


def _fused(
    q: Float[Tensor, "heads Q d"],
    k: Float[Tensor, "heads K d"],
    v: Float[Tensor, "R heads K e"],
    rows: Sequence[int],
    out: Float[Tensor, "R Q C"],
) -> None:
    """One row, or two side by side, by the fused kernel."""
    (heads, queries, width), own = q.shape, v.shape[-1]
    more = (len(rows) - 1) * own
    wide = v[rows[0]] if not more else torch.cat([v[i] for i in rows], -1)
    q, k = (F.pad(x, (0, more)) if more else x for x in (q, k))
    both = F.scaled_dot_product_attention(q[None], k[None], wide[None], scale=width**-0.5)[0]
    for place, i in enumerate(rows):
        out[i].view(queries, heads, own).copy_(both[..., place * own : (place + 1) * own].transpose(0, 1))
