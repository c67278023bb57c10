"""A training image with its caption and regions, and the protocol of datasets of such images."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cloisonne.scene.shapes.geometry import Box


@dataclass(frozen=True, eq=False)
class TrainingImage:
    """A training image.

    Attributes:
        rgb: uint8 [h, w, 3].
        caption: The caption, or "".
        regions: Box, as fractions of the image, and text of each region.
        style_reference: Another image of the same style, uint8 [h, w, 3]; the exemplar of a style example, else None.
    """

    rgb: NDArray[np.uint8]
    caption: str
    regions: tuple[tuple[Box, str], ...]
    style_reference: NDArray[np.uint8] | None = None


class ImageDataset(Protocol):
    """Training images in a fixed order.

    Attributes:
        digest: Identifies the images and texts.
        warnings: Sentences about the data.
    """

    digest: str
    warnings: tuple[str, ...]

    def __len__(self) -> int: ...

    def load(self, index: int, rng: np.random.Generator) -> TrainingImage:
        """Load image ``index``; ``rng`` chooses among its captions and nothing else."""
        ...

    def has_box(self, index: int, smallest: float, largest: float) -> bool:
        """Whether image ``index`` has a box whose area fraction is between ``smallest`` and ``largest``."""
        ...
