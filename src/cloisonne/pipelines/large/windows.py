"""Canvases larger than the model's native size, predicted by overlapping windows (MultiDiffusion, arXiv 2302.08113).

Each window has the native size and a plan of its own, with the regions that lie in it; their estimates of x0 are
averaged where they overlap. All windows of a step are one batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from cloisonne.core.plan import Box, Plan, View
from cloisonne.core.refines import Clamp
from cloisonne.errors import CapabilityError
from cloisonne.methods.base import Method
from cloisonne.methods.compile import Compiled, compile
from cloisonne.methods.context import Context
from cloisonne.methods.layout import Placed, place
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Box as Fractions
from cloisonne.scene.shapes.geometry import Frame, Window, clipped
from cloisonne.scene.shapes.masks import Mask

LEAST = 0.5
"""A window has the regions of whose mask it shows at least this share; a smaller part would become a whole object."""


def windows_of(grid: tuple[int, int], size: tuple[int, int], overlap: float) -> list[Box]:
    """The windows of a canvas (H, W) of latent pixels, row by row.

    size: of a window, (H, W); a shorter side of the canvas is one window. overlap: the least fraction of a window that
    it shares with the next one.
    """
    rows, columns = (_spread(*sides, overlap) for sides in zip(grid, size, strict=True))
    height, width = (min(*sides) for sides in zip(grid, size, strict=True))
    return [Box(top, left, top + height, left + width) for top, left in product(rows, columns)]


def _spread(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin so that they cover a length, evenly spread."""
    if length <= window:
        return [0]
    count = math.ceil((length - window) / max(window * (1 - overlap), 1)) + 1
    return [round(place * (length - window) / (count - 1)) for place in range(count)]


def compile_windows(
    method: Method, boxes: Sequence[Box], context: Callable[[Frame, tuple[int, int], Scene], Context], scene: Scene
) -> Compiled:
    """Compile a scene to one plan of all windows.

    context: makes the context of a window from its frame, its grid (H, W) and its scene. Raises what ``compile`` does.
    """
    size = (scene.width or 0, scene.height or 0)
    masks = {region.name or "": region.soft_mask(size[1], size[0]) for region in scene.active_regions}
    grid = (max(box.bottom for box in boxes), max(box.right for box in boxes))
    factor = size[0] // grid[1]
    plan, parts = Plan(), list[Compiled]()
    for index, box in enumerate(boxes):
        window = Window(*(factor * side for side in (box.left, box.top, box.right, box.bottom)))
        own = (box.bottom - box.top, box.right - box.left)
        visible = [region for region in scene.active_regions if _share(masks[region.name or ""], window) >= LEAST]
        part = scene.replace(width=window.width, height=window.height, regions=tuple(visible))
        ctx = context(Frame((window.width, window.height), size, window), own, part)
        compiled = compile(method, [_placed(region, masks[region.name or ""], window, own) for region in visible], ctx)
        plan += replace(
            compiled.plan,
            views=tuple(_in_window(view, box, index) for view in compiled.plan.views),
            refines=compiled.plan.refines if index == 0 else (),
        )
        parts.append(compiled)
    if not all(isinstance(refine, Clamp) for part in parts for refine in part.plan.refines):
        raise CapabilityError(
            "A condition that constrains the whole image does not fit windows; leave one of them out."
        )
    seeds = [
        (seed, _on_canvas(mask, box, grid)) for part, box in zip(parts, boxes, strict=True) for seed, mask in part.seeds
    ]
    return Compiled(
        plan=plan,
        seeds=tuple(
            (seed, _largest([mask for other, mask in seeds if other == seed]))
            for seed in dict.fromkeys(s for s, _ in seeds)
        ),
        dropped=tuple(dict.fromkeys(name for part in parts for name in part.dropped)),
        warnings=tuple(dict.fromkeys(text for part in parts for text in part.warnings)),
    )


def _share(mask: Mask, window: Window) -> float:
    """The share of a mask [H, W] that a window shows."""
    return float(mask[window.slices].sum() / max(mask.sum(), 1e-6))


def _placed(region: Region, mask: Mask, window: Window, grid: tuple[int, int]) -> Placed:
    return place(region, mask[window.slices], _box_in(region.bounding_box(float(mask.max()) / 2), mask, window), grid)


def _box_in(box: Fractions, mask: Mask, window: Window) -> Fractions:
    height, width = mask.shape
    x0, y0, x1, y1 = (value * side for value, side in zip(box, [width, height] * 2, strict=True))
    w = window
    return clipped(((x0 - w.x0) / w.width, (y0 - w.y0) / w.height, (x1 - w.x0) / w.width, (y1 - w.y0) / w.height))


def _in_window(view: View, box: Box, index: int) -> View:
    """A view of a window's own canvas, on the whole one; its weight fades towards the window's edges."""
    inner = view.box or Box(0, 0, box.bottom - box.top, box.right - box.left)
    place = Box(box.top + inner.top, box.left + inner.left, box.top + inner.bottom, box.left + inner.right)
    fading = _fading(box.bottom - box.top, box.right - box.left).to(view.weight)
    return replace(view, name=f"{view.name}, window {index}", box=place, weight=view.weight * fading[inner.window])


def _fading(height: int, width: int) -> Tensor:
    """[H, W] > 0: 1 in the middle, falling towards the edges."""
    rows, columns = (1 - (2 * (torch.arange(side) + 0.5) / side - 1).abs() for side in (height, width))
    return rows[:, None] * columns


def _on_canvas(mask: Tensor, box: Box, grid: tuple[int, int]) -> Tensor:
    whole = mask.new_zeros(grid)
    whole[box.window] = mask
    return whole


def _largest(masks: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(masks)).amax(0)
