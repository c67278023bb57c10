"""Batches of rendered world images. The step alone determines the seeds."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from cloisonne.world.draw import Drawn, draw
from cloisonne.world.picture import Recipe, sample

TRAINING_SEEDS = 1 << 32
"""First seed of training images. Evaluation seeds are far below; the judge's seeds start at ``JUDGE_SEEDS``."""
JUDGE_SEEDS = 1 << 40

cv2.setNumThreads(0)


def drawn(step: int, count: int, recipe_of: Callable[[int], Recipe], first_seed: int = TRAINING_SEEDS) -> list[Drawn]:
    """Render the images of a step; ``recipe_of(k)`` gives the recipe of the k-th."""
    first = first_seed + step * count
    return [draw(sample(first + k, recipe_of(k))) for k in range(count)]


def as_tensor(rgb: np.ndarray | Tensor) -> Tensor:
    """Convert uint8 [n, h, w, 3] to float32 [n, 3, h, w] in -1..1."""
    return torch.as_tensor(rgb).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def pixels(step: int, count: int, recipe_of: Callable[[int], Recipe]) -> np.ndarray:
    """The images of a step, uint8 [n, h, w, 3]."""
    return np.stack([d.rgb for d in drawn(step, count, recipe_of)])
