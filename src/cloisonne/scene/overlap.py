"""The overlap rule: turns the masks of all regions into one weight per region and pixel."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from cloisonne.scene.shapes.masks import Mask

Overlap = Literal["blend", "priority", "union"]


def region_weights(
    masks: Sequence[Mask], weights: Sequence[float], priorities: Sequence[int], overlap: Overlap
) -> list[Mask]:
    """Compute the weight of each region at each pixel. The order of the regions does not change the weights.

    Args:
        masks: [H, W] in [0, 1], one per region.
        weights: one per region, >= 0.
        priorities: one per region.
        overlap: ``blend`` is mask * weight. ``priority`` is the same, but regions of higher priority hide those below
            them in proportion to their masks; equal priorities blend. ``union`` is the masks without weights.

    Returns:
        Weights [H, W] >= 0, one per region, in the given order.
    """
    if overlap == "union":
        return list(masks)
    counted = [mask * np.float32(weight) for mask, weight in zip(masks, weights, strict=True)]
    if overlap == "blend":
        return counted
    return [count * left_open(priority, masks, priorities) for count, priority in zip(counted, priorities, strict=True)]


def left_open(priority: int, masks: Sequence[Mask], priorities: Sequence[int]) -> Mask:
    """Fraction [H, W] of each pixel that regions above ``priority`` leave uncovered: the product over their levels."""
    height, width = masks[0].shape
    left = np.ones((height, width), np.float32)
    for level in sorted({other for other in priorities if other > priority}):
        hiding = [mask for mask, other in zip(masks, priorities, strict=True) if other == level]
        left = left * uncovered(hiding, height, width)
    return left


def uncovered(weights: Sequence[Mask], height: int, width: int) -> Mask:
    """Weight [H, W] that the regions leave to the caption: 1 minus the sum of ``weights``, not below 0."""
    nothing = np.zeros((height, width), np.float32)
    # Sorted, because a sum of floats depends on the order, and the order of regions must not matter.
    return np.clip(1 - np.sort(np.stack([nothing, *weights]), axis=0).sum(axis=0), 0, 1)
