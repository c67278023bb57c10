"""How scenes and images appear in notebooks: PNG bytes, and HTML with a table of the regions."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO

from PIL import Image

from cloisonne.scene.conditions.kinds import conditions_of
from cloisonne.scene.io.overlay import draw_regions
from cloisonne.scene.region import Region

SIDE = 256
"""Shorter side of a scene's canvas in a notebook, in pixels."""


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
