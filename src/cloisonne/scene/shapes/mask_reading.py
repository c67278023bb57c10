"""Reads masks as they were meant: finds the channel, the white level and the black level.

``auto`` decides by the rules below and notes each decision that is not obvious; ``luminance`` (times opacity),
``alpha`` and ``transparency`` (1 - alpha) take the values of that channel as they are.
"""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.images import mask_image, mask_values, opened, orientation, turned_upright
from cloisonne.scene.shapes.mask_photo import has_colours, is_photo, many_colours
from cloisonne.scene.shapes.masks import Mask

Channel = Literal["auto", "luminance", "alpha", "transparency"]

WHITE = 240
"""A mask of 8 bits whose brightest value is below this is scaled until that value is 255."""
DEEP_WHITE = 256
"""The same for 16 bits. Their scale is trusted: only below this they contain labels or 8-bit values."""
NEARLY_BLACK = 8
"""Of 255. Backgrounds and specks up to this brightness are black; the tails of soft edges are not."""

_ONE_COLOUR = 16
"""Largest difference between pixels of one brush colour, per channel."""

_STROKES = (
    'has a transparent background: its opaque pixels are the region, as with the mask channel "alpha"; to use its '
    'transparent pixels, give "transparency".'
)
_HOLE = (
    'is an image with transparent parts: they are the region, as with the mask channel "transparency"; to use its '
    'opaque pixels, give "alpha".'
)


@dataclass(frozen=True, eq=False)
class ReadMask:
    """A mask as it was read.

    Attributes:
        image: of mode L, LA or I;16; the mask is its brightness times its opacity.
        notes: sentences without their subject about the decisions of ``auto``.
    """

    image: Image.Image
    notes: tuple[str, ...] = ()

    @property
    def values(self) -> Mask:
        """[h, w] in [0, 1]."""
        return mask_values(self.image)


def read_mask(picture: ImageRef, region: str | None = None, channel: Channel = "auto") -> ReadMask:
    """Read a mask at its own size. Raises ImageError, which names ``region``, if it cannot be read."""
    if channel == "luminance":
        return ReadMask(mask_image(picture, region))
    colours = _upright(picture, region)
    if channel != "auto":
        return ReadMask(_opacity(colours, inverted=channel == "transparency"))
    image, notes = _by_channel(mask_image(picture, region), colours)
    for rule in (_stretched, _on_black):
        image, more = rule(image)
        notes += more
    return ReadMask(image, notes)


def _upright(picture: ImageRef, region: str | None) -> Image.Image:
    stored = opened(picture, "mask", region)
    return turned_upright(stored, orientation(stored))


def _opacity(image: Image.Image, *, inverted: bool) -> Image.Image:
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    return Image.fromarray(255 - alpha if inverted else alpha)


def _by_channel(image: Image.Image, colours: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Choose the channel: alpha for strokes of few colours on a transparent background, transparency for an image with
    transparent parts, else brightness times opacity."""
    if image.mode == "I;16":
        return image, ()
    pixels = np.asarray(colours.convert("RGBA"))
    rgb, alpha = pixels[..., :3], pixels[..., 3]
    if alpha.min() == alpha.max():
        return image, _colour_notes(rgb, np.asarray(image.convert("L")))
    opaque = rgb[alpha >= 128]
    if opaque.size and opaque.min() >= WHITE:
        return image, ()
    if opaque.size and int(np.ptp(opaque, axis=0).max()) <= _ONE_COLOUR:
        return _opacity(colours, inverted=False), (_STROKES,)
    grey = np.asarray(colours.convert("RGB").convert("L"))
    if not (has_colours(rgb, alpha >= 128) or is_photo(grey, alpha >= 128)):
        return image, ()
    hole = many_colours(opaque)
    return _opacity(colours, inverted=hole), (_HOLE if hole else _STROKES,)


def _colour_notes(rgb: NDArray[np.uint8], grey: NDArray[np.uint8]) -> tuple[str, ...]:
    everywhere = np.ones(grey.shape, bool)
    if has_colours(rgb, everywhere):
        return ("has several colours, but only brightness is used; paint the region white on black.",)
    if is_photo(grey, everywhere):
        return ("has grey values throughout, like a photograph; paint the region white on black.",)
    return ()


def _stretched(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Scale the values so that the brightest is white, if it is far from white."""
    deep = image.mode == "I;16"
    values = mask_values(image)
    full = 65535 if deep else 255
    brightest = float(values.max())
    if brightest == 0 or round(brightest * full) >= (DEEP_WHITE if deep else WHITE):
        return image, ()
    kind: Any = np.uint16 if deep or image.mode == "LA" else np.uint8
    limit = np.iinfo(kind).max
    white = Image.fromarray(np.rint(values.astype(np.float64) * (limit / brightest)).clip(0, limit).astype(kind))
    return white, (
        f"has no value above {round(brightest * full)} of {full}, which is taken as white; give the mask channel "
        '"luminance" to use its values as they are.',
    )


def _on_black(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    """Set a nearly black background and nearly black specks to black."""
    grey = mask_values(image) * 255
    low = (grey > 0) & (grey <= NEARLY_BLACK + 0.5)
    if not low.any() or grey.max() <= 2 * NEARLY_BLACK + 1:
        return image, ()
    next_greys = int(((grey > NEARLY_BLACK + 0.5) & (grey <= 2 * NEARLY_BLACK + 0.5)).sum())
    if int(low.sum()) > max(int((grey == 0).sum()), 10 * next_greys):
        note = f"has a nearly black background (up to {float(grey[low].max()):.3g} of 255), which is taken as black."
        return _blackened(image, low), (note,)
    specks, count = _specks(grey, low)
    if not count:
        return image, ()
    what = "1 speck" if count == 1 else f"{count} specks"
    return _blackened(image, specks), (
        f"has {what} no brighter than {NEARLY_BLACK} of 255 outside its region, taken as black.",
    )


def _specks(grey: NDArray[Any], low: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
    """The connected components without any pixel above NEARLY_BLACK, as a mask, and their number."""
    found: Any = cv2.connectedComponents((grey > 0).astype(np.uint8), connectivity=8)
    count, parts = found
    real = np.zeros(count, bool)
    real[np.unique(parts[(grey > 0) & ~low])] = True
    real[0] = True
    return ~real[parts], int(count - real.sum())


def _blackened(image: Image.Image, where: NDArray[np.bool_]) -> Image.Image:
    pixels = np.array(image)
    pixels[where] = 0
    return Image.fromarray(pixels)
