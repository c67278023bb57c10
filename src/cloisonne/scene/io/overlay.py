"""Draws the outlines and names of regions over an image, and scenes and images as a notebook's HTML."""

import colorsys
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cloisonne.scene.conditions.kinds import conditions_of
from cloisonne.scene.region import Region

MIN_SIDE = 512
"""Smaller images are enlarged by a whole factor, so that names are readable."""

SIDE = 256
"""Shorter side of a scene's canvas in a notebook, in pixels."""

_Colour = tuple[int, int, int]


def draw_regions(picture: Image.Image, regions: Sequence[Region]) -> Image.Image:
    """Draw each region's outline and name over ``picture`` (upright). Masks are outlined at half of their maximum.

    Returns:
        An RGB image, enlarged if the given one is smaller than MIN_SIDE.
    """
    factor = max(1, -(-MIN_SIDE // min(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    pixels = np.array(picture.convert("RGB").resize(size, Image.Resampling.NEAREST))
    labels = []
    for index, region in enumerate(regions):
        inside, colour = _inside(region, size[1], size[0]), _colour(index)
        _outline(pixels, inside, colour)
        labels.append((region.name or "", _corner(inside), colour))
    drawn = Image.fromarray(pixels)
    for name, corner, colour in labels:
        _label(drawn, name, corner, colour)
    return drawn


def _inside(region: Region, height: int, width: int) -> NDArray[np.uint8]:
    mask = region.replace(feather=0.0).soft_mask(height, width)
    return (mask >= 0.5 * mask.max()).astype(np.uint8)


def _colour(index: int) -> _Colour:
    """Distinct hues for any number of regions: steps of the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb((0.05 + index * 0.618034) % 1, 0.75, 1)
    return round(255 * red), round(255 * green), round(255 * blue)


def _outline(pixels: NDArray[np.uint8], inside: NDArray[np.uint8], colour: _Colour) -> None:
    outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(2, min(inside.shape) // 200)
    cv2.drawContours(pixels, outlines, -1, (0, 0, 0), thickness + 2)
    cv2.drawContours(pixels, outlines, -1, colour, thickness)


def _corner(inside: NDArray[np.uint8]) -> tuple[int, int]:
    """x, y of the first pixel inside, in row order."""
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return int(x), int(y)


def _label(drawn: Image.Image, name: str, corner: tuple[int, int], colour: _Colour) -> None:
    draw = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(max(12, min(drawn.size) // 32))
    left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = max(0, min(corner[0] + 4, drawn.width - int(width)))
    y = min(corner[1] + 4, drawn.height - int(height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 3 - left, y + 3 - top), name, fill=(0, 0, 0), font=font)


def png(image: Image.Image) -> bytes:
    """An image as the bytes of a PNG."""
    out = BytesIO()
    image.save(out, "png")
    return out.getvalue()


def figure(images: Sequence[Image.Image], *tables: str) -> str:
    """HTML of images side by side with tables below."""
    tags = "".join(f'<img src="data:image/png;base64,{b64encode(png(one)).decode()}"> ' for one in images)
    return f"<div>{tags}{''.join(tables)}</div>"


def canvas(width: int | None, height: int | None, regions: Sequence[Region]) -> Image.Image:
    """The shapes of regions, with their names, on a light canvas of a scene's aspect; square without a size."""
    size = (width or height or SIDE, height or width or SIDE)
    scale = SIDE / min(size)
    light = Image.new("RGB", (round(size[0] * scale), round(size[1] * scale)), (236, 236, 236))
    return draw_regions(light, regions)


def table(rows: Iterable[tuple[str, object]]) -> str:
    """HTML of a table of two columns."""
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def regions_table(regions: Iterable[Region]) -> str:
    """HTML of a table of regions: the name, and what conditions each."""
    return table(
        (region.name or "", ", ".join(filter(None, [region.phrase, *conditions_of(region)]))) for region in regions
    )
