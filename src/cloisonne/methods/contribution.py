"""What a kind of condition adds to the views of a scene, by ``+``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from cloisonne.core.plan import Conditioning, View
from cloisonne.methods.context import Context
from cloisonne.methods.layout import Part


@dataclass(frozen=True, kw_only=True, eq=False)
class Contribution:
    """cond, null: conditioning of these branches of every text-conditioned view. views: further views, of networks of
    their own, which take their weight from the canvas. ``Contribution()`` is the identity of ``+``."""

    cond: Conditioning = field(default_factory=Conditioning)
    null: Conditioning = field(default_factory=Conditioning)
    views: tuple[View, ...] = ()

    def __add__(self, other: "Contribution") -> "Contribution":
        return Contribution(cond=self.cond + other.cond, null=self.null + other.null, views=self.views + other.views)


@runtime_checkable
class ConditionKind(Protocol):
    """How regions that are given something contribute, in one interval of the steps."""

    def __call__(self, parts: Sequence[Part], ctx: Context) -> Contribution:
        """parts: all regions that count in the interval; those without this kind of condition are passed over."""
        ...


def both(conditioning: Conditioning) -> Contribution:
    """The same conditioning in every branch."""
    return Contribution(cond=conditioning, null=conditioning)
