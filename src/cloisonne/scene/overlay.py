"""A picture with its regions drawn over it, for people to look at."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cloisonne.scene.region import Region

MIN_SIDE = 512
"""Smaller pictures are enlarged by a whole factor, so that names can be read."""

_Colour = tuple[int, int, int]


def draw_regions(picture: Image.Image, regions: Sequence[Region]) -> Image.Image:
    """``picture`` (upright) as RGB with each region's outline and name; of a grey mask, around its brighter half."""
    factor = max(1, -(-MIN_SIDE // min(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    pixels = np.array(picture.convert("RGB").resize(size, Image.Resampling.NEAREST))
    insides = [_inside(region, size[1], size[0]) for region in regions]
    colours = [_colour(index) for index in range(len(regions))]
    for inside, colour in zip(insides, colours, strict=True):
        _outline(pixels, inside, colour)
    drawn = Image.fromarray(pixels)
    for region, inside, colour in zip(regions, insides, colours, strict=True):
        _label(drawn, region.name or "", inside, colour)
    return drawn


def _inside(region: Region, height: int, width: int) -> NDArray[np.uint8]:
    mask = region.replace(feather=0.0).soft_mask(height, width)
    return (mask >= 0.5 * mask.max()).astype(np.uint8)


def _colour(index: int) -> _Colour:
    """Hues that stay apart however many there are: steps of the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb((0.05 + index * 0.618034) % 1, 0.75, 1)
    return round(255 * red), round(255 * green), round(255 * blue)


def _outline(pixels: NDArray[np.uint8], inside: NDArray[np.uint8], colour: _Colour) -> None:
    outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(2, min(inside.shape) // 200)
    cv2.drawContours(pixels, outlines, -1, (0, 0, 0), thickness + 2)
    cv2.drawContours(pixels, outlines, -1, colour, thickness)


def _label(drawn: Image.Image, name: str, inside: NDArray[np.uint8], colour: _Colour) -> None:
    """The name in the top left corner of what is ``inside``."""
    draw = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(max(12, min(drawn.size) // 32))
    left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
    first_row = int(inside.any(axis=1).argmax())
    first_column = int(inside[first_row:].any(axis=0).argmax())
    width, height = right - left + 6, bottom - top + 6
    x = max(0, min(first_column + 4, drawn.width - int(width)))
    y = min(first_row + 4, drawn.height - int(height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 3 - left, y + 3 - top), name, fill=(0, 0, 0), font=font)
