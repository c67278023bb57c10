"""Warnings about given masks: how they were read, and what does not fit the image. One sentence each."""

import math
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from cloisonne.pipelines.inpaint import BackgroundEdit
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import crop_window, pixel_window
from cloisonne.scene.shapes.mask_reading import ReadMask, read_mask
from cloisonne.scene.shapes.masks import Mask, extent

ASPECT = 1.01
"""Largest change of the aspect ratio without a warning."""
SPECK = 1e-4
"""A connected part of a mask is a speck if it has at most this fraction of the mask's pixels, or SPECK_PIXELS."""
SPECK_PIXELS = 4
SHRINKS = 1.5
"""Specks give a warning if the window's side is this many times larger because of them."""


def mask_warnings(scene: Scene, edit: BackgroundEdit | None, size: tuple[int, int]) -> Iterator[str]:
    """Warnings about the masks of a scene on a canvas of size (width, height)."""
    whole = (edit.source.width, edit.source.height) if edit else size
    for region in scene.active_regions:
        if region.mask is None:
            continue
        read = region.read_mask()
        subject = f'Region "{region.name}": its mask {region.mask}'
        yield from (f"{subject} {note}" for note in read.notes)
        if fault := misfit(read.image.size, whole, given=edit is not None):
            yield f"{subject} {fault}"
        if edit is not None:
            yield from (f"{subject} {note}" for note in _specks(region, read.values, edit))
        if scene.background is not None and region.mask.read() == scene.background.read():
            yield from (f"{subject} is the background itself; {advice}" for advice in _of_background(region, read))
    if scene.outside is not None and scene.outside.mask is not None:
        notes = read_mask(scene.outside.mask).notes
        yield from (f"The mask {scene.outside.mask} of outside {note}" for note in notes)


def misfit(own: tuple[int, int], whole: tuple[int, int], *, given: bool) -> str:
    """How an image of size ``own`` (width, height) does not fit one of size ``whole``, as words; "" if it does.

    given: ``whole`` is a given image, whose exact size matters, and not a canvas.
    """
    sizes = f"has {own[0]} x {own[1]} pixels and the {'image' if given else 'canvas'} {whole[0]} x {whole[1]}"
    ratio = own[0] * whole[1] / (own[1] * whole[0])
    rounding = 1 + 1 / min(*own, *whole)
    if not 1 / max(ASPECT, rounding) <= ratio <= max(ASPECT, rounding):
        return f"{sizes}, another aspect ratio: it is stretched to fit, so crop it to the same part."
    return f"{sizes}: it is resized, and so are its edges." if given and own != whole else ""


def _of_background(region: Region, read: ReadMask) -> Iterator[str]:
    """Advice where the background is given as its own mask and was not read by its transparency."""
    hole = region.replace(mask_channel="transparency").read_mask().values
    if not hole.any():
        yield "give an image in which the region is white on black."
    elif not np.array_equal(hole, read.values):
        yield 'if its transparent area is meant, give the mask channel "transparency".'


def _specks(region: Region, own: Mask, edit: BackgroundEdit) -> Iterator[str]:
    """A warning if specks of a mask [h, w] enlarge the window."""
    count, without = _without_specks(own)
    if not count:
        return
    boxes = [extent(mask) for name, mask in edit.masks.items() if name != region.name]
    x0, y0, x1, y1 = zip(*(box for box in [extent(without), *boxes] if box), strict=True)
    width, height = edit.source.width, edit.source.height
    rest = crop_window(pixel_window((min(x0), min(y0), max(x1), max(y1)), width, height), width, height)
    w = edit.window
    if math.sqrt(w.width * w.height / (rest.width * rest.height)) >= SHRINKS:
        what = "1 speck" if count == 1 else f"{count} specks"
        yield (
            f"has {what} apart from the rest, which enlarges the window to {w.width} x {w.height} pixels from "
            f"{rest.width} x {rest.height}; erase specks that are not meant."
        )


def _without_specks(mask: Mask) -> tuple[int, Mask]:
    """The number of specks, and the mask without them; 0 and the mask itself if it is all specks."""
    found: Any = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
    count, parts, stats, _ = found
    areas = stats[:, cv2.CC_STAT_AREA]
    small = areas <= max(SPECK_PIXELS, SPECK * float(areas[1:].sum()))
    small[0] = False
    if not small.any() or int(small.sum()) == count - 1:
        return 0, mask
    return int(small.sum()), np.where(small[parts], 0, mask).astype(np.float32)
