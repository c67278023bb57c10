"""Which image sizes suit a model family: how far each side may be from its training size."""

from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Model


def size_warning(width: int, height: int, model: Model) -> str | None:
    """A warning where a side of the canvas, in pixels, is beyond its family's reach, else None."""
    native, family = model.native, FAMILIES[model.family]
    reach = family.reach
    ratios = (width / native.width, height / native.height)
    if all(1 / reach <= ratio <= reach for ratio in ratios):
        return None
    wrong = "repeats or loses objects" if max(ratios) > reach else "generates hardly recognisable images"
    return (
        f"The image is {width} x {height} pixels, but this model ({family.title}) was trained at "
        f"{native.width} x {native.height}; beyond {reach:g} times that, longer or shorter, it {wrong}."
    )
