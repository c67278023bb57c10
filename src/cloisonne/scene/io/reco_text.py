"""ReCo's strings: a caption and regions in one line, as its two published forms write them."""

import re
from collections.abc import Sequence

from cloisonne.errors import SceneError
from cloisonne.scene.prompt import escaped
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Box
from cloisonne.scene.values import shown

BINS = 1000
"""Position tokens of the published models."""

_OFFICIAL = re.compile(r"((?:<\d+>\s*){4})")


def hub_string(caption: str, regions: Sequence[tuple[Box, str]], bins: int = BINS) -> str:
    """The prompt by which stock pipelines run a ReCo checkpoint: bins are ``<bin042>``, texts between start and end."""
    digits = max(3, len(str(bins - 1)))
    parts = [caption]
    for box, phrase in regions:
        places = " ".join(f"<bin{round(value * (bins - 1)):0{digits}d}>" for value in box)
        parts.append(f"{places} <|startoftext|> {phrase}")
    return " <|endoftext|> ".join(parts)


def from_reco(text: str, *, official_bins: bool = False) -> Scene:
    """The scene of ``caption <514> <575> <741> <765> phrase <...>``, the official command line's form.

    A number n is the position n / 999 of the side, as its bin is named. official_bins: n / 1000, as the official script
    reads it, by which half of the numbers come one bin lower (546 becomes 545). Raises SceneError where a region has
    not four numbers or reaches outside.
    """
    caption, *rest = _OFFICIAL.split(text)
    if re.search(r"<\d+>", caption) or len(rest) % 2:
        raise SceneError(f"{shown(text)} has positions that are not four in a row; write <x0> <y0> <x1> <y1> phrase.")
    scale = 1000 if official_bins else BINS - 1
    regions = []
    for index, (places, phrase) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
        if re.search(r"<\d+>", phrase):
            raise SceneError(
                f"{shown(text)} has positions that are not four in a row; write <x0> <y0> <x1> <y1> phrase."
            )
        box = [int(number) / scale for number in re.findall(r"\d+", places)]
        regions.append(Region(name=f"region-{index}", box=box, phrase=escaped(phrase.strip())))
    return Scene(caption=escaped(caption.strip()), regions=regions)
