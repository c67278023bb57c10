"""mixed-v1: world scenes of three objects, one conditioned on a phrase, one on an exemplar, one on its edges.

Case k is determined by its index. The objects form compositions of the training data and lie apart from each other.
The canvas is either empty or holds the background image.
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
"""The name of the scene with all three regions."""
TOGETHER = "together"
"""The name of the scene with one region and all three conditions."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One scene. Images are uint8 [h, w, 3].

    layout: the objects and their boxes. The first region has a phrase, the second the exemplar ``exemplar`` of the
    held-out glyph ``char``, the third the edges of ``truth`` and its phrase in the caption, as edges are trained.
    own: an exemplar of the first region's object, for the scene of one region with all conditions. empty: the
    background alone.
    """

    index: int
    layout: Layout
    truth: NDArray[np.uint8]
    empty: NDArray[np.uint8]
    exemplar: NDArray[np.uint8]
    char: str
    own: NDArray[np.uint8]

    def place(self, kind: Kind) -> Wanted:
        """The object of a kind of condition."""
        return self.layout.regions[KINDS.index(kind)]

    def mask(self, kind: Kind) -> NDArray[np.bool_]:
        """The object's box, bool [128, 128]."""
        return inside(self.place(kind))

    def scene(self, kinds: tuple[Kind, ...], *, given: bool) -> Scene:
        """The scene with the regions of ``kinds``. given: over the background image."""
        conditions: Mapping[Kind, dict[str, Any]] = {
            "phrase": {"phrase": self.place("phrase").phrase},
            "exemplar": {"exemplar": Image.fromarray(self.exemplar)},
            "control": {"control": self._edges()},
        }
        regions = [Region(name=kind, box=self.place(kind).box, **conditions[kind]) for kind in kinds]
        return self._over(f"{self.place('control').phrase} {self.layout.caption}", regions, given)

    def together(self, kinds: tuple[Kind, ...], *, given: bool) -> Scene:
        """The scene of the first object alone, in one region with the conditions of ``kinds``."""
        conditions: Mapping[Kind, dict[str, Any]] = {
            "phrase": {"phrase": self.place("phrase").phrase},
            "exemplar": {"exemplar": Image.fromarray(self.own)},
            "control": {"control": self._edges()},
        }
        fields = {name: value for kind in kinds for name, value in conditions[kind].items()}
        region = Region(name=TOGETHER, box=self.place("phrase").box, **fields)
        return self._over(f"{self.place('phrase').phrase} {self.layout.caption}", [region], given)

    def _edges(self) -> dict[str, Any]:
        return {"kind": "canny", "image": DRAWN["canny"](self.truth)}

    def _over(self, caption: str, regions: list[Region], given: bool) -> Scene:
        canvas = {"background": Image.fromarray(self.empty)} if given else {"width": CANVAS, "height": CANVAS}
        return Scene(caption=caption, regions=tuple(regions), **canvas)


def inside(place: Wanted) -> NDArray[np.bool_]:
    """An object's box, bool [128, 128]."""
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
        exemplar=exemplar(char, None, drawn.picture.background, rng),
        char=char,
        own=exemplar(first.char, first.colour, drawn.picture.background, rng),
    )
