"""A contact sheet: images side by side, each with a label above it."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

MIN_SIDE, MAX_SIDE = 256, 1024
"""Smaller images are enlarged by an integer factor to fit their labels; larger ones are reduced. In pixels."""
MOST = 5
"""Most images in a row."""
_MARGIN = 8


def contact_sheet(images: Sequence[Image.Image], labels: Sequence[str]) -> Image.Image:
    """RGB: the upright images in reading order, in rows of about equal length, at most ``MOST`` in each."""
    cells = [_fitted(image.convert("RGB")) for image in images]
    width, height = max(cell.width for cell in cells), max(cell.height for cell in cells)
    size = max(14, width // 20)
    font, head = ImageFont.load_default(size), 2 * _MARGIN + round(1.25 * size)
    rows = math.ceil(len(cells) / MOST)
    columns = math.ceil(len(cells) / rows)
    sheet = Image.new("RGB", (columns * (width + _MARGIN) + _MARGIN, rows * (head + height) + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (cell, label) in enumerate(zip(cells, labels, strict=True)):
        x, y = _MARGIN + index % columns * (width + _MARGIN), index // columns * (head + height)
        draw.text((x, y + _MARGIN), _shortened(label, font, width), fill="black", font=font)
        sheet.paste(cell, (x, y + head))
    return sheet


def _fitted(image: Image.Image) -> Image.Image:
    shorter, longer = min(image.size), max(image.size)
    if longer > MAX_SIDE:
        factor = MAX_SIDE / longer
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        return image.resize(size, Image.Resampling.LANCZOS)
    factor = max(1, min(-(-MIN_SIDE // shorter), MAX_SIDE // longer))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _shortened(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The label in one line, cut to ``width`` pixels."""
    line = " ".join(label.split())
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}...") > width:
        line = line[:-1]
    return f"{line}..."
