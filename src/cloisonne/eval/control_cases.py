"""control-v1: world scenes in which a masked part is to follow the edges of the ground truth.

The scenes obey the rules of the layouts (every fifth has held-out compositions, every fourth has overlaps) with seeds
of their own. Scene k is determined by its index.
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

Use = Literal["none", "masked", "both", "conditional", "unmasked", "map"]
"""none: no control. masked: the whole map, features masked. both, conditional: the same with the map in both branches
of guidance, or in the conditional one alone. unmasked: the whole map, features everywhere. map: the map is blanked
outside the mask, features everywhere."""
_BRANCHES = {"both": False, "conditional": True}
"""``conditional_only`` of the uses that set it."""

MaskOf = Callable[[np.random.Generator], NDArray[np.float32]]
"""Samples a mask [128, 128], 1 where the map counts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One scene. mask: bool [128, 128], True where the edges are to be followed. truth: image, uint8 [128, 128, 3]."""

    layout: Layout
    mask: NDArray[np.bool_]
    truth: NDArray[np.uint8]

    @property
    def index(self) -> int:
        """Index in the list."""
        return self.layout.index

    def outside(self) -> list[bool]:
        """For each object, whether the centre of its box lies outside the mask."""
        boxes = [region.box for region in self.layout.regions]
        middles = [(int((y0 + y1) / 2 * CANVAS), int((x0 + x1) / 2 * CANVAS)) for x0, y0, x1, y1 in boxes]
        return [not self.mask[at] for at in middles]

    def scene(self, use: Use, kind: ControlKind) -> Scene:
        """The scene of a row; the caption always names the objects."""
        scene = self.layout.captioned().replace(method="caption")
        if use == "none":
            return scene
        control_map = DRAWN[kind](self.truth)
        if use == "map":
            control_map[~self.mask] = 0
        control = {"kind": kind, "image": control_map, "conditional_only": _BRANCHES.get(use)}
        shape: dict[str, Any] = {"mask": self.mask}
        if use in ("unmasked", "map"):
            shape = {"box": (0.0, 0.0, 1.0, 1.0)}
        return scene.replace(regions=(Region(name="edges", control=control, **shape),))


def cases(count: int, mask_of: MaskOf) -> Iterator[Case]:
    """The first ``count`` scenes; ``mask_of`` samples each mask from a generator of its own."""
    for layout in scan(count, FIRST_SEED):
        mask = mask_of(np.random.default_rng([layout.seed, 20267])) > 0.5
        yield Case(layout=layout, mask=mask, truth=layout.truth().rgb)


def fingerprint(mask_of: MaskOf) -> str:
    """SHA-256 of the first scenes: equal hashes mean equal captions, masks and images."""
    total = hashlib.sha256()
    for case in cases(_FINGERPRINTED, mask_of):
        total.update(f"{case.layout.seed} {case.layout.sentence}\n".encode())
        total.update(case.mask.tobytes() + case.truth.tobytes())
    return total.hexdigest()
