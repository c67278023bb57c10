"""Which image sizes suit a model family: how far each side may be from its training size."""

from collections.abc import Mapping

from cloisonne.models.capabilities import TITLES
from cloisonne.models.checkpoints.parts import Family
from cloisonne.models.model import Model

REACH: Mapping[Family, float] = {"builtin": 1.25, "sd1": 1.5, "sd2": 1.5, "sdxl": 1.75, "pbe": 1.5}
"""By this factor a side may be longer or shorter than the native one. Stable Diffusion XL was trained at many sides."""


def size_warning(width: int, height: int, model: Model) -> str | None:
    """A warning where a side of the canvas, in pixels, is beyond ``REACH``, else None."""
    native, reach = model.native, REACH[model.family]
    ratios = (width / native.width, height / native.height)
    if all(1 / reach <= ratio <= reach for ratio in ratios):
        return None
    wrong = "repeats or loses objects" if max(ratios) > reach else "generates hardly recognisable images"
    return (
        f"The image is {width} x {height} pixels, but this model ({TITLES[model.family]}) was trained at "
        f"{native.width} x {native.height}; beyond {reach:g} times that, longer or shorter, it {wrong}."
    )
