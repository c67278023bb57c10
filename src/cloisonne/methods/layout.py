"""Where the regions of a scene lie on the grid of latents, and how much each counts at every pixel.

Letters as in ``core``: H W latent pixels. Regions are always taken in their canonical order, area descending, then
name, so that their order in the scene changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from cloisonne.methods.context import Context
from cloisonne.scene.overlap import left_open, region_weights, uncovered
from cloisonne.scene.region import Region
from cloisonne.scene.shapes.geometry import Box
from cloisonne.scene.shapes.masks import Mask, resized


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A region where it lies on the canvas. box: fractions of the canvas. mask: [H, W] in [0, 1]."""

    region: Region
    box: Box
    mask: Mask

    @property
    def name(self) -> str:
        """The region's name, unique in its scene."""
        return self.region.name or ""

    def at_progress(self, progress: float, num_steps: int) -> "Placed":
        """The same place with the region's texts at that step; see :meth:`Region.at_progress`."""
        return replace(self, region=self.region.at_progress(progress, num_steps))


def place(region: Region, soft: Mask, box: Box, grid: tuple[int, int]) -> Placed:
    """A region whose mask on the canvas, at any size, is ``soft``, on a grid (H, W) of latents."""
    return Placed(region=region, box=box, mask=resized(soft, *grid))


def box_of(region: Region, soft: Mask) -> Box:
    """The box by which text and position tokens describe where a region is.

    Of a grey mask, the box around what is at least half as opaque as its most opaque pixel.
    """
    return region.bounding_box(float(soft.max()) / 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A region in one interval of the denoising steps, on the model's device.

    mask: [H, W], what of the region is not hidden by a higher priority. share: [H, W], the region's weight among
    all texts at a pixel; the shares of all regions and the caption's add up to 1. open: [H, W], what higher
    priorities leave of every pixel, also outside of the mask. weight: the region's where weights count, else 1.
    relative: [H, W], the share as a multiple of what it would be if all weights were 1.
    """

    region: Region
    box: Box
    mask: Tensor
    share: Tensor
    open: Tensor
    weight: float
    relative: Tensor

    @property
    def name(self) -> str:
        """The region's name, unique in its scene."""
        return self.region.name or ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """The regions that are active in one interval of the steps, in canonical order.

    rest: [H, W], the caption's share. captioned: where texts share it, the regions without a phrase that the caption
    describes (``ConditionKind.captioned``).
    """

    parts: tuple[Part, ...]
    rest: Tensor
    captioned: tuple[Part, ...] = ()


def layout(placed: Sequence[Placed], ctx: Context, *, weighted: bool = True) -> Layout:
    """The overlap rule on the grid of latents. weighted: by the regions' weights; otherwise all weights are equal."""
    masks, overlap = [p.mask for p in placed], ctx.scene.overlap
    priorities = [p.region.priority if overlap == "priority" else 0 for p in placed]
    seen = region_weights(masks, [1.0] * len(placed), priorities, overlap)
    numbers = [p.region.weight if weighted and overlap != "union" else 1.0 for p in placed]
    shares, rest = _shares(region_weights(masks, numbers, priorities, overlap), ctx)
    equal, _ = _shares(seen, ctx)
    return Layout(
        parts=tuple(
            Part(
                region=p.region,
                box=p.box,
                mask=ctx.tensor(mask),
                share=ctx.tensor(share),
                open=ctx.tensor(left_open(priority, masks, priorities)),
                weight=weight,
                relative=ctx.tensor(np.divide(share, even, out=np.ones_like(share), where=even > 0)),
            )
            for p, mask, share, even, weight, priority in zip(
                placed, seen, shares, equal, numbers, priorities, strict=True
            )
        ),
        rest=ctx.tensor(rest),
    )


def _shares(weights: Sequence[Mask], ctx: Context) -> tuple[list[Mask], Mask]:
    """How much of a pixel each region and the caption have, adding up to 1."""
    rest = uncovered(weights, *ctx.grid)
    total = np.stack([*weights, rest]).sum(axis=0)
    return [weight / total for weight in weights], rest / total
