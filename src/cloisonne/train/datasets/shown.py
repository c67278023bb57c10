"""What a training picture shows: pixels, a caption, regions with boxes and words; and where such pictures come from."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cloisonne.scene.shapes.geometry import Box


@dataclass(frozen=True, eq=False)
class Shown:
    """rgb: uint8 [h, w, 3]. caption: "" if there is none. regions: boxes in fractions of the picture, and words.

    mate: another whole picture of the same style, if this one is shown for its style.
    """

    rgb: NDArray[np.uint8]
    caption: str
    regions: tuple[tuple[Box, str], ...]
    mate: NDArray[np.uint8] | None = None


class Rows(Protocol):
    """Pictures to train on, in a fixed order. digest: equal for equal pictures and words. warnings: about them."""

    digest: str
    warnings: tuple[str, ...]

    def __len__(self) -> int: ...

    def show(self, index: int, rng: np.random.Generator) -> Shown:
        """Picture ``index``; ``rng`` decides among its captions, and nothing else does."""
        ...

    def has_box(self, index: int, smallest: float, largest: float) -> bool:
        """Whether picture ``index`` has a box of such a share of its area."""
        ...
