"""Attention of one batch row with what other rows store of theirs, in joint attention.

Rows of a transformer are forwards of their own, so that a source stores queries, keys and values of its image tokens
and the rows after it take them: probabilities of the source (:class:`~cloisonne.core.attention.edits.ShareSelf`), or
keys and values of tokens that the row does not compute (:class:`~cloisonne.core.attention.edits.ReuseBackground`).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cloisonne.core.attention.joint import QueryGroup
from cloisonne.core.attention.joint_blocks import Attend


@dataclass(eq=False)
class Stored:
    """What a source stores in one forward, by attention layer.

    shared: the layers whose queries and keys others take. background: the image tokens, by their number, whose keys and
    values others take; None for none.
    """

    shared: frozenset[Hashable] = frozenset()
    background: Int[Tensor, " m"] | None = None
    queries_keys: dict[Hashable, tuple[Tensor, Tensor]] = field(default_factory=dict[Hashable, tuple[Tensor, Tensor]])
    keys_values: dict[Hashable, tuple[Tensor, Tensor]] = field(default_factory=dict[Hashable, tuple[Tensor, Tensor]])

    def add(self, layer: Hashable, q: Tensor, k: Tensor, v: Tensor) -> None:
        """Store what is needed of the image tokens [B, heads, Q, d] of a layer."""
        if layer in self.shared:
            self.queries_keys[layer] = (q, k)
        if self.background is not None:
            self.keys_values[layer] = (k.index_select(2, self.background), v.index_select(2, self.background))

    @property
    def num_bytes(self) -> int:
        """The memory of the stored keys and values."""
        return sum(own.numel() * own.element_size() for pair in self.keys_values.values() for own in pair)


@dataclass(eq=False)
class BackgroundMemory:
    """The memory of the keys and values that a run stores at one time, at most."""

    num_bytes: int = 0


@dataclass(frozen=True, eq=False)
class RowExchange:
    """One row's part in it.

    image: the first of its image tokens, and the one after the last, in its sequence. stored: what it stores for
    others. source: of which it takes. shared: the layers in which it takes queries and keys. computed: the image tokens
    that it computes, by their number; None for all.
    """

    image: tuple[int, int]
    stored: Stored | None = None
    source: Stored | None = None
    shared: frozenset[Hashable] = frozenset()
    computed: Int[Tensor, " n"] | None = None

    def __call__(
        self,
        attend: Attend,
        q: Float[Tensor, "B heads S d"],
        k: Float[Tensor, "B heads S d"],
        v: Float[Tensor, "B heads S d"],
        groups: Sequence[QueryGroup],
        layer: Hashable,
        *,
        first: int | None = None,
    ) -> Float[Tensor, "B heads S d"]:
        """Attention of a layer. groups: of this row's sequence with the tokens it takes behind it. first: the place of
        the first image token where the layer's sequence is not the row's."""
        start = self.image[0] if first is None else first
        own = slice(start, start + self.image[1] - self.image[0])
        if self.stored is not None:
            self.stored.add(layer, q[:, :, own], k[:, :, own], v[:, :, own])
        if self.source is None:
            return attend(q, k, v, groups)
        if layer in self.shared:
            taken = self.source.queries_keys[layer]
            some = taken if self.computed is None else tuple(x.index_select(2, self.computed) for x in taken)
            q, k = (_replaced(x, other, own) for x, other in zip((q, k), some, strict=True))
        if self.computed is not None:
            k, v = (torch.cat(pair, 2) for pair in zip((k, v), self.source.keys_values[layer], strict=True))
        return attend(q, k, v, groups)


def _replaced(x: Tensor, other: Tensor, place: slice) -> Tensor:
    x = x.clone()
    x[:, :, place] = other
    return x


def reduced(
    groups: Sequence[QueryGroup], length: int, image: tuple[int, int], computed: Int[Tensor, " n"]
) -> tuple[QueryGroup, ...]:
    """Groups of a sequence of ``length`` tokens, for one in which only some image tokens are computed and the others'
    keys and values are behind it. image: the image tokens of the whole sequence."""
    places = torch.full((length,), -1)
    left = torch.ones(length, dtype=torch.bool)
    left[image[0] : image[1]] = False
    left[image[0] + computed.cpu()] = True
    places[left] = torch.arange(int(left.sum()))
    places[~left] = torch.arange(int(left.sum()), length)
    found: list[QueryGroup] = []
    for group in groups:
        queries, keys = group.queries.cpu(), group.keys.cpu()
        some = left[queries]
        if not bool(some.any()):
            continue
        order = places[keys].argsort()
        device = group.queries.device
        found.append(
            QueryGroup(
                places[queries[some]].to(device),
                places[keys][order].to(device),
                None if group.bias is None else group.bias[some.to(device)],
                None if group.columns is None else group.columns[order.to(device)],
            )
        )
    return tuple(found)
