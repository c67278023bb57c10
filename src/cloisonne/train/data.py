"""Batches of drawn pictures; which pictures is decided by the step alone."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from cloisonne.world.draw import Drawn, draw
from cloisonne.world.picture import Recipe, sample

TRAINING_SEEDS = 1 << 32
"""Training pictures have seeds from here on; evaluation lists stay far below, the judge's above ``JUDGE_SEEDS``."""
JUDGE_SEEDS = 1 << 40

cv2.setNumThreads(0)


def drawn(step: int, count: int, recipe_of: Callable[[int], Recipe], first_seed: int = TRAINING_SEEDS) -> list[Drawn]:
    """The drawn pictures of a step; ``recipe_of`` gives the recipe of the k-th."""
    first = first_seed + step * count
    return [draw(sample(first + k, recipe_of(k))) for k in range(count)]


def as_tensor(rgb: np.ndarray) -> Tensor:
    """uint8 [n, h, w, 3] -> float32 [n, 3, h, w] in -1..1."""
    return torch.from_numpy(rgb).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def pixels(step: int, count: int, recipe_of: Callable[[int], Recipe]) -> np.ndarray:
    """The pixels of a step's pictures, uint8 [n, h, w, 3]."""
    return np.stack([d.rgb for d in drawn(step, count, recipe_of)])
