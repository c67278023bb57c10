"""Which sizes a line of checkpoints draws well: how far each side may be from the one it was trained at."""

from collections.abc import Mapping

from cloisonne.models.capabilities import TITLES
from cloisonne.models.checkpoints.parts import Family
from cloisonne.models.model import Model

REACH: Mapping[Family, float] = {"builtin": 1.25, "sd1": 1.5, "sd2": 1.5, "sdxl": 1.75, "pbe": 1.5}
"""By this factor a side may be longer or shorter than the native one. Stable Diffusion XL was trained at many sides."""


def size_warning(width: int, height: int, model: Model) -> str | None:
    """One sentence where a canvas of this many pixels is beyond the model's reach, else None."""
    native, reach = model.native, REACH[model.family]
    ratios = (width / native.width, height / native.height)
    if all(1 / reach <= ratio <= reach for ratio in ratios):
        return None
    wrong = "repeats or loses things" if max(ratios) > reach else "draws little that can be made out"
    return (
        f"The picture is {width} x {height} pixels, but this model ({TITLES[model.family]}) was trained at "
        f"{native.width} x {native.height}; beyond {reach:g} times that, longer or shorter, it {wrong}."
    )
