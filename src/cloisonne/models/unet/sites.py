"""The attention layers of a UNet: their names, places and grids."""

import math
from collections.abc import Iterable
from dataclasses import replace

from cloisonne.core.attention.call import Site, Stage

STAGES: dict[str, Stage] = {"down_blocks": "down", "mid_block": "mid", "up_blocks": "up"}


def layer_of(processor: str) -> str:
    """The name of an attention layer, from its processor's name in diffusers."""
    return processor.removesuffix(".processor")


def sites_of(processors: Iterable[str]) -> dict[str, Site]:
    """The attention layers by the names of their processors, in the order of a forward pass, with no grid yet."""
    ordered = sorted(processors, key=lambda name: list(STAGES).index(name.split(".")[0]))
    last = max(len(ordered) - 1, 1)
    return {
        name: Site(
            layer=layer_of(name),
            grid=(0, 0),
            kind="cross" if layer_of(name).endswith("attn2") else "self",
            stage=STAGES[name.split(".")[0]],
            depth=place / last,
        )
        for place, name in enumerate(ordered)
    }


def on_canvas(site: Site, canvas: tuple[int, int], num_levels: int) -> Site:
    """The site with its grid on a canvas (H, W), which every level but the last halves, rounding up."""
    match site.layer.split("."):
        case ["down_blocks", block, *_]:
            level = int(block)
        case ["up_blocks", block, *_]:
            level = num_levels - 1 - int(block)
        case _:
            level = num_levels - 1
    height, width = canvas
    for _ in range(level):
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    return replace(site, grid=(height, width))
