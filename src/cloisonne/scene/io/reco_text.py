"""ReCo's prompts: a caption and regions in one string, in its two published forms."""

import re
from collections.abc import Sequence

from cloisonne.errors import SceneError
from cloisonne.scene.prompt import escaped
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Box
from cloisonne.scene.values import brief

BINS = 1000
"""Number of position tokens of the published models."""

_OFFICIAL = re.compile(r"((?:<\d+>\s*){4})")


def hub_string(caption: str, regions: Sequence[tuple[Box, str]], bins: int = BINS) -> str:
    """The prompt for a ReCo checkpoint in a stock pipeline. Bins are ``<bin042>``; texts have start and end tokens."""
    digits = max(3, len(str(bins - 1)))
    parts = [caption]
    for box, phrase in regions:
        places = " ".join(f"<bin{round(value * (bins - 1)):0{digits}d}>" for value in box)
        parts.append(f"{places} <|startoftext|> {phrase}")
    return " <|endoftext|> ".join(parts)


def from_reco(text: str, *, official_bins: bool = False) -> Scene:
    """Make a scene from ``caption <514> <575> <741> <765> phrase <...>``, the form of the official command line.

    Args:
        text: the string.
        official_bins: a number n is the position n / 1000 of the side, as in the official script, which moves half of
            the numbers one bin lower (546 becomes 545). Otherwise it is n / 999, the position of bin n.

    Raises:
        SceneError: a region does not have four numbers, or reaches outside the canvas.
    """
    caption, *rest = _OFFICIAL.split(text)
    if re.search(r"<\d+>", caption) or len(rest) % 2:
        raise _malformed(text)
    scale = 1000 if official_bins else BINS - 1
    regions = []
    for index, (places, phrase) in enumerate(zip(rest[::2], rest[1::2], strict=True)):
        if re.search(r"<\d+>", phrase):
            raise _malformed(text)
        box = [int(number) / scale for number in re.findall(r"\d+", places)]
        regions.append(Region(name=f"region-{index}", box=box, phrase=escaped(phrase.strip())))
    return Scene(caption=escaped(caption.strip()), regions=regions)


def _malformed(text: str) -> SceneError:
    return SceneError(
        f"The text {brief(text)} has a region without exactly four positions; write <x0> <y0> <x1> <y1> phrase."
    )
