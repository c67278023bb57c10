"""mixed-v1: world scenes of three objects, each asked for in its own way: by words, by a picture, by its edges.

Everything about case k follows from its place in the list. The objects are those of training compositions and apart
from each other. In a drawn case the canvas is empty; in a given one the background lies there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloisonne.eval.holes import exemplar
from cloisonne.eval.layouts import CANVAS, Layout, Wanted, scan
from cloisonne.scene import Region, Scene
from cloisonne.scene.control_maps import DRAWN
from cloisonne.world.draw import draw
from cloisonne.world.glyphs import HELD_OUT
from cloisonne.world.picture import Picture

FIRST_SEED = 7 << 20
"""Above the seeds of the other lists, far below those of any training."""
OBJECTS = 3
_SCANNED = 1 << 20  # more than any list is long

Kind = Literal["phrase", "exemplar", "control"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MIXED = "mixed"
"""The scene of all three regions."""
TOGETHER = "together"
"""The scene of one region that is told in all three ways."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One scene.

    layout: what it shows and where. Its first region is asked for by words, the second by ``shown``, a picture of the
    held-out glyph ``char``, the third by the edges of ``truth`` and its name in the caption, as edges are trained.
    own: a picture of the first region's object, for the scene in which one region is told everything. empty: the
    background alone. Pictures are uint8 [h, w, 3].
    """

    index: int
    layout: Layout
    truth: NDArray[np.uint8]
    empty: NDArray[np.uint8]
    shown: NDArray[np.uint8]
    char: str
    own: NDArray[np.uint8]

    def place(self, kind: Kind) -> Wanted:
        """The object whose place a kind of condition has."""
        return self.layout.regions[KINDS.index(kind)]

    def mask(self, kind: Kind) -> NDArray[np.bool_]:
        """That place, bool [128, 128]."""
        return inside(self.place(kind))

    def scene(self, kinds: tuple[Kind, ...], *, given: bool) -> Scene:
        """The scene with the regions of some kinds alone. given: over the background's picture."""
        told: Mapping[Kind, dict[str, Any]] = {
            "phrase": {"phrase": self.place("phrase").phrase},
            "exemplar": {"exemplar": Image.fromarray(self.shown)},
            "control": {"control": self._edges()},
        }
        regions = [Region(name=kind, box=self.place(kind).box, **told[kind]) for kind in kinds]
        return self._over(f"{self.place('control').phrase} {self.layout.caption}", regions, given)

    def together(self, kinds: tuple[Kind, ...], *, given: bool) -> Scene:
        """The first object alone, asked for in one region in some ways at once."""
        told: Mapping[Kind, dict[str, Any]] = {
            "phrase": {"phrase": self.place("phrase").phrase},
            "exemplar": {"exemplar": Image.fromarray(self.own)},
            "control": {"control": self._edges()},
        }
        fields = {name: value for kind in kinds for name, value in told[kind].items()}
        region = Region(name=TOGETHER, box=self.place("phrase").box, **fields)
        return self._over(f"{self.place('phrase').phrase} {self.layout.caption}", [region], given)

    def _edges(self) -> dict[str, Any]:
        return {"kind": "canny", "image": DRAWN["canny"](self.truth)}

    def _over(self, caption: str, regions: list[Region], given: bool) -> Scene:
        drawn = {"background": Image.fromarray(self.empty)} if given else {"width": CANVAS, "height": CANVAS}
        return Scene(caption=caption, regions=tuple(regions), **drawn)


def inside(place: Wanted) -> NDArray[np.bool_]:
    """The place's box, bool [128, 128]."""
    x0, y0, x1, y1 = (round(v * CANVAS) for v in place.box)
    mask = np.zeros((CANVAS, CANVAS), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def cases(count: int) -> Iterator[Case]:
    """The first ``count`` cases."""
    fitting = (layout for layout in scan(_SCANNED, FIRST_SEED) if _fits(layout))
    for index, layout in enumerate(islice(fitting, count)):
        yield _case(index, layout)


def _fits(layout: Layout) -> bool:
    return len(layout.regions) == OBJECTS and not layout.held_out and not any(map(layout.overlapped, range(OBJECTS)))


def _case(index: int, layout: Layout) -> Case:
    rng = np.random.default_rng([layout.seed, 20268])
    drawn = layout.truth()
    empty: Picture = replace(drawn.picture, items=())
    char, first = HELD_OUT[int(rng.integers(len(HELD_OUT)))], layout.regions[0]
    return Case(
        index=index,
        layout=layout,
        truth=drawn.rgb,
        empty=draw(empty, CANVAS, CANVAS).rgb,
        shown=exemplar(char, None, drawn.picture.background, rng),
        char=char,
        own=exemplar(first.char, first.colour, drawn.picture.background, rng),
    )
