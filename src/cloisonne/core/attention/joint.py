"""Joint attention of text and image tokens, by region, for diffusion transformers.

One sequence holds a caption, the phrases of regions and the image. A phrase attends to itself and to the image tokens
of its region; an image token attends to the caption, to the phrases of its regions and to the image; the caption
attends to everything (isolated texts, 3DIS-FLUX, arXiv 2501.05131, section 3.2). A weight w of a phrase at an image
token adds ``log w`` to its logits, and so does a count of some of its tokens (``Tokens.counts``). Optionally image
tokens attend only to image tokens that share a region with them.

:func:`joint_attention` sorts the queries into groups that attend to the same keys, so that hard masks need no mask in
the kernel and work follows the covered area; :func:`dense_joint_attention` is the definition and its oracle.
Letters: B rows, S tokens of the sequence, Q image tokens, d width of a head.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Segment:
    """Tokens ``start .. stop`` of the sequence that are no image tokens: a caption, a phrase, or a reference picture.

    weight: [Q] >= 0, how much the segment counts at each image token; None for a caption, which counts everywhere.
    counts: (start, stop, times): these tokens of the segment count ``times`` > 0 times for image tokens.
    """

    start: int
    stop: int
    weight: Float[Tensor, " Q"] | None = None
    counts: tuple[tuple[int, int, float], ...] = ()


@dataclass(frozen=True, eq=False)
class JointLayout:
    """The segments of a sequence and its image tokens ``start .. stop``.

    isolated: image tokens attend only to image tokens of their own regions; those of no region to each other.
    """

    segments: tuple[Segment, ...]
    image: tuple[int, int]
    isolated: bool = False

    @property
    def length(self) -> int:
        """S, the number of tokens."""
        return max(self.image[1], *(segment.stop for segment in self.segments))

    def bias(self) -> Float[Tensor, "S S"]:
        """[S, S] to add to the logits of each query (rows) and key (columns): 0, log w, or -inf."""
        start, stop = self.image
        bias = torch.zeros(self.length, self.length)
        for own in self.segments:
            for first, last, times in own.counts:
                bias[start:stop, own.start + first : own.start + last] = math.log(times)
            if own.weight is None:
                continue
            outside = torch.ones(self.length, dtype=torch.bool)
            outside[own.start : own.stop] = False
            bias[own.start : own.stop, outside] = -torch.inf
            bias[own.start : own.stop, start:stop] = torch.where(own.weight.cpu() > 0, 0.0, -torch.inf)
            bias[start:stop, own.start : own.stop] += own.weight.cpu().float().log()[:, None]
        if self.isolated:
            bias[start:stop, start:stop] = torch.where(self._shared(), 0.0, -torch.inf)
        return bias

    def _shared(self) -> Bool[Tensor, "Q Q"]:
        """[Q, Q]: whether two image tokens share a region, or both have none."""
        covered = self._covered().float()
        nowhere = (covered.sum(0) == 0).float()[None]
        both = torch.cat([covered, nowhere])
        return both.T @ both > 0

    def _covered(self) -> Bool[Tensor, "regions Q"]:
        """[regions, Q]: which region's segment counts where."""
        weights = [segment.weight.cpu() > 0 for segment in self.segments if segment.weight is not None]
        return torch.stack(weights) if weights else torch.zeros(0, self.image[1] - self.image[0], dtype=torch.bool)


@dataclass(frozen=True, eq=False)
class QueryGroup:
    """Queries that attend to the same keys: indices [n] and [m] into the sequence; bias: [n, m], or None for 0."""

    queries: Int[Tensor, " n"]
    keys: Int[Tensor, " m"]
    bias: Float[Tensor, "n m"] | None


def query_groups(layout: JointLayout, device: torch.device | str = "cpu") -> tuple[QueryGroup, ...]:
    """The groups of a layout; made once a run and used by every layer."""
    bias = layout.bias()
    allowed = bias > -torch.inf
    unique: Any = torch.unique  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    found: tuple[Tensor, Tensor] = unique(allowed, dim=0, return_inverse=True)
    patterns, group_of = found
    groups: list[QueryGroup] = []
    for number, pattern in enumerate(patterns):
        queries, keys = (group_of == number).nonzero().flatten(), pattern.nonzero().flatten()
        own = bias[queries][:, keys]
        groups.append(
            QueryGroup(queries.to(device), keys.to(device), own.to(device) if bool((own != 0).any()) else None)
        )
    return tuple(groups)


def joint_attention(
    q: Float[Tensor, "B heads S d"],
    k: Float[Tensor, "B heads S d"],
    v: Float[Tensor, "B heads S d"],
    groups: Sequence[QueryGroup],
) -> Float[Tensor, "B heads S d"]:
    """Attention of q, k, v [B, heads, S, d] by groups, [B, heads, S, d]; without groups, nothing is masked."""
    if not groups or (len(groups) == 1 and groups[0].bias is None):
        return F.scaled_dot_product_attention(q, k, v)
    out = torch.empty_like(q)
    for group in groups:
        bias = None if group.bias is None else group.bias.to(q.dtype)
        everything = len(group.keys) == k.shape[2]
        own_k, own_v = (k, v) if everything else (k.index_select(2, group.keys), v.index_select(2, group.keys))
        found = F.scaled_dot_product_attention(q.index_select(2, group.queries), own_k, own_v, attn_mask=bias)
        out.index_copy_(2, group.queries, found)
    return out


def dense_joint_attention(
    q: Float[Tensor, "B heads S d"],
    k: Float[Tensor, "B heads S d"],
    v: Float[Tensor, "B heads S d"],
    layout: JointLayout,
) -> Float[Tensor, "B heads S d"]:
    """The definition: one masked softmax over the whole sequence."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=layout.bias().to(q))
