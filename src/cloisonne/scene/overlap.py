"""The overlap rule: several masks become one weight for each region at each pixel."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cloisonne.scene.shapes.masks import Mask

Overlap = Literal["blend", "priority", "union"]


def region_weights(
    masks: Sequence[Mask], weights: Sequence[float], priorities: Sequence[int], overlap: Overlap
) -> list[Mask]:
    """How much each region counts at each pixel: [H, W] >= 0 a region, in the order given; the order changes nothing.

    ``blend``: mask * weight. ``priority``: the same, and a higher priority hides what is below it, as much as it is
    opaque; equal ones blend. ``union``: the masks as they are, so that all regions count alike.
    Each mask [H, W] is in [0, 1], each weight >= 0.
    """
    if overlap == "union":
        return list(masks)
    counted = [mask * np.float32(weight) for mask, weight in zip(masks, weights, strict=True)]
    if overlap == "blend":
        return counted
    return [count * left_open(priority, masks, priorities) for count, priority in zip(counted, priorities, strict=True)]


def left_open(priority: int, masks: Sequence[Mask], priorities: Sequence[int]) -> Mask:
    """How much of a pixel [H, W] the regions above ``priority`` leave open: the product over their levels."""
    height, width = masks[0].shape
    left = np.ones((height, width), np.float32)
    for level in sorted({other for other in priorities if other > priority}):
        hiding = [mask for mask, other in zip(masks, priorities, strict=True) if other == level]
        left = left * uncovered(hiding, height, width)
    return left


def uncovered(weights: Sequence[Mask], height: int, width: int) -> Mask:
    """What is left for the caption at each pixel [H, W]: 1 minus the sum of ``weights``, not below 0."""
    nothing = np.zeros((height, width), np.float32)
    # Sorted, because a sum of floats depends on its order, and the order of regions must not matter.
    return np.clip(1 - np.sort(np.stack([nothing, *weights]), axis=0).sum(axis=0), 0, 1)
