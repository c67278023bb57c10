"""The protocol of methods, and the token budget of their sequences.

Letters as in ``core``: H W latent pixels, N tokens, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cloisonne.core.plan import Conditioning, View
from cloisonne.errors import SceneError
from cloisonne.methods.context import Context
from cloisonne.methods.layout import Layout, Part, Placed
from cloisonne.scene.shapes.geometry import area


@dataclass(frozen=True, kw_only=True, eq=False)
class Fragment:
    """The text conditioning of a layout by a method.

    Attributes:
        text: conditioning of the view of the whole canvas.
        summary: one text for that view, for pooled text and ControlNets.
        parts: the regions whose phrases condition that view; their negatives and guidance do, too.
        views: further views of single regions, which take their weight from that of the canvas.
    """

    text: Conditioning
    summary: str
    parts: tuple[Part, ...] = ()
    views: tuple[View, ...] = ()


@runtime_checkable
class Method(Protocol):
    """How regions reach the network."""

    def fitting(self, placed: Sequence[Placed], ctx: Context) -> list[Placed]:
        """The regions whose texts fit; the others are dropped as a whole, lowest priority first, then smallest."""
        ...

    def compile(self, layout: Layout, ctx: Context) -> Fragment:
        """The text conditioning in one interval of the steps."""
        ...


def within_budget(placed: Sequence[Placed], costs: Sequence[int], room: int) -> list[Placed]:
    """The regions whose costs in tokens fit ``room`` together: while they do not, the one of lowest priority is left
    out, of equal ones the smallest, of equal ones the last. Raises SceneError for a region that does not even fit
    alone.
    """
    for p, cost in zip(placed, costs, strict=True):
        if cost > room:
            raise SceneError(
                f"Its phrase takes {cost} tokens with those for its place, but next to the caption the model reads at "
                f"most {room}; shorten the phrase or the caption.",
                region=p.name,
            )
    fitting = list(zip(placed, costs, strict=True))
    while sum(cost for _, cost in fitting) > room:
        least = min(reversed(fitting), key=lambda entry: (entry[0].region.priority, area(entry[0].box)))
        fitting.remove(least)
    return [p for p, _ in fitting]
