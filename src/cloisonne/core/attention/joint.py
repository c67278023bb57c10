"""Joint attention of text and image tokens, by region, for diffusion transformers.

One sequence holds a caption, the phrases of regions and the image. A phrase attends to itself and to the image tokens
of its region; an image token attends to the caption, to the phrases of its regions and to the image; the caption
attends to everything (isolated texts, 3DIS-FLUX, arXiv 2501.05131, section 3.2). A weight w of a phrase at an image
token adds ``log w`` to its logits, and so does a count of some of its tokens (``Tokens.counts``). Optionally image
tokens attend only to image tokens that share a region with them.

:func:`joint_attention` sorts the queries into groups that attend to the same keys, so that no mask is needed in the
kernel and work follows the covered area; :func:`dense_joint_attention` is the definition and its oracle.
Letters: B rows, S tokens of the sequence, Q image tokens, d width of a head.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cloisonne.core.attention.transfer import to_device

ALIGNED = 8
"""Widths of heads are multiples of this, as the fused kernels want them."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Tokens ``start .. stop`` of the sequence that are no image tokens: a caption, a phrase, or a reference picture.

    weight: [Q] >= 0, how much the segment counts at each image token; None for a caption, which counts everywhere.
    counts: (start, stop, times): these tokens of the segment count ``times`` > 0 times for image tokens.
    rest: whether it is a caption that counts where no region is; it counts everywhere where regions do not hold.
    """

    start: int
    stop: int
    weight: Float[Tensor, " Q"] | None = None
    counts: tuple[tuple[int, int, float], ...] = ()
    rest: bool = False


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

    def without_regions(self) -> "JointLayout":
        """The same sequence, in which no segment of a region counts anywhere."""

        def changed(own: Segment) -> Segment:
            return own if own.weight is None else replace(own, weight=None if own.rest else own.weight * 0)

        return JointLayout(tuple(map(changed, self.segments)), self.image)

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
        covered = self.covered().float()
        nowhere = (covered.sum(0) == 0).float()[None]
        both = torch.cat([covered, nowhere])
        return both.T @ both > 0

    def covered(self) -> Bool[Tensor, "regions Q"]:
        """[regions, Q]: which segment with a weight counts where."""
        weights = [segment.weight.cpu() > 0 for segment in self.segments if segment.weight is not None]
        return torch.stack(weights) if weights else torch.zeros(0, self.image[1] - self.image[0], dtype=torch.bool)


@dataclass(frozen=True, eq=False)
class QueryGroup:
    """Queries that attend to the same keys: indices [n] and [m] into the sequence.

    ``bias @ columns.T``, of bias [n, R] and columns [m, R], is added to the logits: for each segment with weights their
    logarithms and 1 at its keys; for all counts together 1 and their logarithms. bias is None where it is 1 for all
    queries, of counts alone; both are None where nothing is added.
    """

    queries: Int[Tensor, " n"]
    keys: Int[Tensor, " m"]
    bias: Float[Tensor, "n R"] | None = None
    columns: Float[Tensor, "m R"] | None = None


def query_groups(layout: JointLayout, device: torch.device | str = "cpu") -> tuple[QueryGroup, ...]:
    """The groups of a layout, () where nothing is masked; made once a run and used by every layer.

    Nothing of size [S, S] is made.
    """
    regions = [segment for segment in layout.segments if segment.weight is not None]
    captions = [segment for segment in layout.segments if segment.weight is None]
    if not regions and not any(own.counts for own in captions):
        return ()
    image = torch.arange(*layout.image)
    everywhere = [torch.arange(own.start, own.stop) for own in captions]
    covered = layout.covered()
    groups = [QueryGroup(torch.cat(everywhere), torch.arange(layout.length))] if everywhere else []
    for own, inside in zip(regions, covered, strict=True):
        tokens = torch.arange(own.start, own.stop)
        groups.append(QueryGroup(tokens, torch.cat([tokens, image[inside]]).sort().values))
    for inside, pattern in _patterns(covered):
        own = [region for region, counts in zip(regions, pattern, strict=True) if bool(counts)]
        shared = image[_together(covered, pattern)] if layout.isolated else image
        phrases = [torch.arange(region.start, region.stop) for region in own]
        keys = torch.cat([*everywhere, *phrases, shared]).sort().values
        groups.append(QueryGroup(image[inside], keys, *_factors([*captions, *own], inside, keys)))
    return tuple(_on(group, device) for group in groups)


def image_groups(layout: JointLayout, device: torch.device | str = "cpu") -> tuple[QueryGroup, ...]:
    """The groups of a layer that attends from image tokens to image tokens alone; () where nothing is masked.

    Indices are into the image tokens.
    """
    covered = layout.covered()
    if not layout.isolated or not len(covered):
        return ()
    places = torch.arange(covered.shape[1])
    groups = (QueryGroup(places[inside], places[_together(covered, own)]) for inside, own in _patterns(covered))
    return tuple(_on(group, device) for group in groups)


def _patterns(covered: Bool[Tensor, "regions Q"]) -> Iterator[tuple[Bool[Tensor, " Q"], Bool[Tensor, " regions"]]]:
    """Image tokens of the same regions: [Q], which tokens, and [regions], which regions."""
    if not len(covered):
        yield torch.ones(covered.shape[1], dtype=torch.bool), torch.zeros(0, dtype=torch.bool)
        return
    unique: Any = torch.unique  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    found: tuple[Tensor, Tensor] = unique(covered, dim=1, return_inverse=True)
    patterns, pattern_of = found
    for number, pattern in enumerate(patterns.T):
        yield pattern_of == number, pattern


def _together(covered: Bool[Tensor, "regions Q"], pattern: Bool[Tensor, " regions"]) -> Bool[Tensor, " Q"]:
    """[Q]: the image tokens of any of these regions; without regions, those of no region."""
    return covered[pattern].any(0) if bool(pattern.any()) else ~covered.any(0)


def _factors(
    segments: Sequence[Segment], inside: Bool[Tensor, " Q"], keys: Int[Tensor, " m"]
) -> tuple[Float[Tensor, "n R"] | None, Float[Tensor, "m R"] | None]:
    """The bias of some image tokens and the columns of their keys, as in a QueryGroup."""
    factors: list[tuple[Tensor, Tensor]] = []
    counted = torch.zeros(len(keys))
    for own in segments:
        weight = torch.ones(int(inside.sum())) if own.weight is None else own.weight.cpu()[inside].float()
        if not bool((weight == 1).all()):
            factors.append((weight.log(), ((keys >= own.start) & (keys < own.stop)).float()))
        for start, stop, times in own.counts:
            counted[(keys >= own.start + start) & (keys < own.start + stop)] = math.log(times)
    if not factors:
        return None, counted[:, None] if bool(counted.any()) else None
    if bool(counted.any()):
        factors.append((torch.ones(int(inside.sum())), counted))
    return torch.stack([bias for bias, _ in factors], 1), torch.stack([column for _, column in factors], 1)


def _on(group: QueryGroup, device: torch.device | str) -> QueryGroup:
    bias, columns = (None if part is None else to_device(part, device) for part in (group.bias, group.columns))
    return QueryGroup(to_device(group.queries, device), to_device(group.keys, device), bias, columns)


def joint_attention(
    q: Float[Tensor, "B heads S d"],
    k: Float[Tensor, "B heads K d"],
    v: Float[Tensor, "B heads K d"],
    groups: Sequence[QueryGroup],
) -> Float[Tensor, "B heads S d"]:
    """Attention of q [B, heads, S, d] to k and v [B, heads, K, d] by groups, [B, heads, S, d]; without groups, nothing
    is masked. There are more keys than queries where some tokens are not computed."""
    if not groups:
        return F.scaled_dot_product_attention(q, k, v)
    out = torch.empty_like(q)
    for group in groups:
        everything = len(group.keys) == k.shape[2]
        own_k, own_v = (k, v) if everything else (k.index_select(2, group.keys), v.index_select(2, group.keys))
        found = _attention(q.index_select(2, group.queries), own_k, own_v, group)
        out.index_copy_(2, group.queries, found)
    return out


def _attention(
    q: Float[Tensor, "B heads n d"], k: Float[Tensor, "B heads m d"], v: Float[Tensor, "B heads m d"], group: QueryGroup
) -> Float[Tensor, "B heads n d"]:
    """Attention of one group. Its bias, of rank R, is R further numbers of each query and key: no mask [n, m] is made.

    A bias of the keys alone is a mask [1, m] on a CPU, whose kernel takes it; on a GPU a mask excludes the fastest one.
    """
    if group.columns is None:
        return F.scaled_dot_product_attention(q, k, v)
    if group.bias is None and q.device.type == "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=group.columns.T[None, None].to(q))
    width, more = q.shape[-1], -group.columns.shape[1] % ALIGNED
    bias = torch.ones(q.shape[2], 1, device=q.device) if group.bias is None else group.bias
    factors = (bias * math.sqrt(width), group.columns)
    wide_q, wide_k = (
        torch.cat([x, F.pad(factor, (0, more)).to(x).expand(*x.shape[:2], -1, -1)], -1)
        for x, factor in zip((q, k), factors, strict=True)
    )
    wide_v = F.pad(v, (0, wide_q.shape[-1] - width))
    return F.scaled_dot_product_attention(wide_q, wide_k, wide_v, scale=1 / math.sqrt(width))[..., :width]


def dense_joint_attention(
    q: Float[Tensor, "B heads S d"],
    k: Float[Tensor, "B heads S d"],
    v: Float[Tensor, "B heads S d"],
    layout: JointLayout,
) -> Float[Tensor, "B heads S d"]:
    """The definition: one masked softmax over the whole sequence."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=layout.bias().to(q))
