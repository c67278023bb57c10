"""Canvases larger than the model's native size, predicted by overlapping windows (MultiDiffusion, arXiv 2302.08113).

Each window has the native size and a plan of its own, with the regions that lie in it; their estimates of x0 are
averaged where they overlap. All windows of a step are one batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
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
from cloisonne.scene.shapes.masks import Mask, resized

WHOLE = 0.98
"""A region that windows show to this share is shown whole."""
FAINT = 1e-3
"""What a window counts where it shows a region that it does not have, of what it counts elsewhere."""


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
    windows = [Window(*(factor * side for side in (box.left, box.top, box.right, box.bottom))) for box in boxes]
    showing = {name: showing_windows(mask, windows) for name, mask in masks.items()}
    for index, (box, window) in enumerate(zip(boxes, windows, strict=True)):
        own = (box.bottom - box.top, box.right - box.left)
        visible_names = {name for name, places in showing.items() if index in places}
        visible = [region for region in scene.active_regions if (region.name or "") in visible_names]
        hidden = [mask[window.slices] for name, mask in masks.items() if name not in visible_names]
        part = scene.replace(width=window.width, height=window.height, regions=tuple(visible))
        ctx = context(Frame((window.width, window.height), size, window), own, part)
        compiled = compile(method, [_placed(region, masks[region.name or ""], window, own) for region in visible], ctx)
        plan += replace(
            compiled.plan,
            views=tuple(_in_window(view, box, index, _unseen(hidden, own)) for view in compiled.plan.views),
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


def showing_windows(mask: Mask, windows: Sequence[Window]) -> set[int]:
    """The numbers of the fewest windows that together show a mask [H, W], those that show most of it first.

    A window that has a region which it cuts off would draw a whole object elsewhere, and of two windows that show the
    same region each might draw its own. Of windows that show as much, the one in whose middle it is.
    """
    left, chosen = mask.copy(), set[int]()
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return chosen
    middle = (float(rows.mean()), float(columns.mean()))
    while left.sum() > (1 - WHOLE) * mask.sum():
        amounts = [float(left[window.slices].sum()) for window in windows]
        far = [math.hypot((w.y0 + w.y1) / 2 - middle[0], (w.x0 + w.x1) / 2 - middle[1]) for w in windows]
        best = max(range(len(windows)), key=lambda place: (round(amounts[place], 3), -far[place]))
        chosen.add(best)
        left[windows[best].slices] = 0
    return chosen


def _placed(region: Region, mask: Mask, window: Window, grid: tuple[int, int]) -> Placed:
    return place(region, mask[window.slices], _box_in(region.bounding_box(float(mask.max()) / 2), mask, window), grid)


def _box_in(box: Fractions, mask: Mask, window: Window) -> Fractions:
    height, width = mask.shape
    x0, y0, x1, y1 = (value * side for value, side in zip(box, [width, height] * 2, strict=True))
    w = window
    return clipped(((x0 - w.x0) / w.width, (y0 - w.y0) / w.height, (x1 - w.x0) / w.width, (y1 - w.y0) / w.height))


def _unseen(hidden: Sequence[Mask], grid: tuple[int, int]) -> Tensor:
    """[H, W] of a window: 1, and ``FAINT`` in the masks of regions that it does not have."""
    left = np.ones(grid, np.float32)
    for mask in hidden:
        left = np.minimum(left, 1 - (1 - FAINT) * resized(mask, *grid))
    return torch.from_numpy(left)


def _in_window(view: View, box: Box, index: int, counts: Tensor) -> View:
    """A view of a window's own canvas, on the whole one; its weight fades towards the window's edges.

    counts: [H, W] of the window, by which the weight is multiplied.
    """
    inner = view.box or Box(0, 0, box.bottom - box.top, box.right - box.left)
    place = Box(box.top + inner.top, box.left + inner.left, box.top + inner.bottom, box.left + inner.right)
    fading = (_fading(box.bottom - box.top, box.right - box.left) * counts).to(view.weight)
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
