"""Joint attention in the blocks of a network: which query groups hold in which block, and what rows exchange."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from cloisonne.core.attention.joint import QueryGroup


@dataclass(frozen=True)
class JointOptions:
    """How regions hold in the joint attention of one batch row.

    isolate: for this fraction of the steps, from the first one, image tokens attend only to image tokens of their
    regions. every: regions hold in every ``every``-th block; in the others an image token attends to the caption and
    the image, and a phrase to itself.
    """

    isolate: float = 0.0
    every: int = 1


Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor, Sequence[QueryGroup]], Tensor]
"""(q [B, heads, S, d], k and v [B, heads, K, d], groups) -> [B, heads, S, d]."""


@runtime_checkable
class Exchange(Protocol):
    """Attention of a row that stores queries, keys and values for other rows, or takes theirs."""

    def __call__(
        self,
        attend: Attend,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        groups: Sequence[QueryGroup],
        layer: Hashable,
        *,
        first: int | None = None,
    ) -> Tensor:
        """The attention of a layer. first: the place of its first image token where that is not the row's."""
        ...


@dataclass(frozen=True, eq=False)
class BlockGroups:
    """The groups of each block of a network: ``regional`` in every ``every``-th, beginning with the first.

    image: of further layers of the regional blocks, in which image tokens attend to image tokens alone. exchange: what
    the row stores for other rows and takes of them (``row_exchange.py``), None for nothing.
    """

    regional: tuple[QueryGroup, ...] = ()
    between: tuple[QueryGroup, ...] = ()
    every: int = 1
    image: tuple[QueryGroup, ...] = ()
    exchange: "Exchange | None" = None

    def attend(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, block: int) -> Tensor:
        """The attention of a block, [B, heads, S, d]."""
        groups = self.of(block)
        return attend(q, k, v, groups) if self.exchange is None else self.exchange(attend, q, k, v, groups, block)

    def attend_image(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, block: int) -> Tensor:
        """The attention of a block's layer of image tokens alone, [B, heads, Q, d]."""
        groups = self.of_image(block)
        if self.exchange is None:
            return attend(q, k, v, groups)
        return self.exchange(attend, q, k, v, groups, ("image", block), first=0)

    def of(self, block: int) -> tuple[QueryGroup, ...]:
        """The groups of a block, counted from 0."""
        return self.regional if block % self.every == 0 else self.between

    def of_image(self, block: int) -> tuple[QueryGroup, ...]:
        """The groups of a block's attention among image tokens alone."""
        return self.image if block % self.every == 0 else ()
