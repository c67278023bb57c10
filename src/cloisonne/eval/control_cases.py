"""control-v1: world scenes of which a part is to obey the edges of the true picture, and how each row is asked for it.

The scenes keep the rules of the layouts (every fifth shows held-out compositions, every fourth has overlaps) and have
seeds of their own. Everything about scene k follows from its place in the list.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cloisonne.eval.layouts import CANVAS, Layout, scan
from cloisonne.scene import Region, Scene
from cloisonne.scene.conditions.control import ControlKind
from cloisonne.scene.control_maps import DRAWN

FIRST_SEED = 5 << 20
"""Above the seeds of the other lists, far below those of any training."""
_FINGERPRINTED = 8

Use = Literal["none", "masked", "unmasked", "map"]
"""none: the caption alone. masked: the map, its features kept inside of the mask. unmasked: the map everywhere. map:
the map without what is outside of the mask, its features everywhere."""

MaskOf = Callable[[np.random.Generator], NDArray[np.float32]]
"""Draws a mask [128, 128], 1 where the map counts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One scene. mask: bool [128, 128], where the edges are to be obeyed. truth: the picture, uint8 [128, 128, 3]."""

    layout: Layout
    mask: NDArray[np.bool_]
    truth: NDArray[np.uint8]

    @property
    def index(self) -> int:
        """Its place in the list."""
        return self.layout.index

    def outside(self) -> list[bool]:
        """Of each object, whether the middle of its box is outside of the mask."""
        boxes = [region.box for region in self.layout.regions]
        middles = [(int((y0 + y1) / 2 * CANVAS), int((x0 + x1) / 2 * CANVAS)) for x0, y0, x1, y1 in boxes]
        return [not self.mask[at] for at in middles]

    def scene(self, use: Use, kind: ControlKind) -> Scene:
        """What a row is asked for; the caption names the objects in every one."""
        scene = self.layout.captioned().replace(method="caption")
        if use == "none":
            return scene
        shown = DRAWN[kind](self.truth)
        if use == "map":
            shown[~self.mask] = 0
        shape: dict[str, Any] = {"mask": self.mask} if use == "masked" else {"box": (0.0, 0.0, 1.0, 1.0)}
        return scene.replace(regions=(Region(name="edges", control={"kind": kind, "image": shown}, **shape),))


def cases(count: int, mask_of: MaskOf) -> Iterator[Case]:
    """The first ``count`` scenes of the list; ``mask_of`` draws their masks, from a generator for each."""
    for layout in scan(count, FIRST_SEED):
        mask = mask_of(np.random.default_rng([layout.seed, 20267])) > 0.5
        yield Case(layout=layout, mask=mask, truth=layout.truth().rgb)


def fingerprint(mask_of: MaskOf) -> str:
    """SHA-256 over the first scenes: with the same one, tables are about the same captions, masks and pictures."""
    total = hashlib.sha256()
    for case in cases(_FINGERPRINTED, mask_of):
        total.update(f"{case.layout.seed} {case.layout.sentence}\n".encode())
        total.update(case.mask.tobytes() + case.truth.tobytes())
    return total.hexdigest()
