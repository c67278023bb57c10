"""A second pass at a larger size: the image is enlarged and repainted with the same regions."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cloisonne.errors import SceneError
from cloisonne.scene.values import Fraction, Value, brief


class Hires(Value):
    """A second pass at a larger size.

    Attributes:
        scale: how many times the width and height of the scene, 1 to 8.
        strength: fraction of the steps in which the enlarged image is repainted, in [0, 1].
    """

    scale: Annotated[float, Field(strict=True, ge=1, le=8)] = 2.0
    strength: Fraction = 0.5


def _given(value: Any) -> Any:
    """Make a Hires from its fields, or from its scale."""
    if value is None or isinstance(value, Hires):
        return value
    if type(value) in (int, float):
        return Hires(scale=float(value))
    if not isinstance(value, Mapping):
        raise SceneError(f'hires is {brief(value)}; give an object {{"scale": 2.0, "strength": 0.5}}.')
    return Hires(**{name: float(number) if type(number) is int else number for name, number in value.items()})


def check_hires(scene: Any) -> None:
    """Raise SceneError for a scene that is not generated from noise alone, and has ``hires`` or ``windows``."""
    for name, given in (("hires", scene.hires), ("windows", scene.windows)):
        if given is None:
            continue
        if scene.background is not None or scene.outside is not None:
            other = "outside" if scene.background is None else "background"
            raise SceneError(f"{name} is for a new image and takes no {other}; leave one of them out.")


HiresField = Annotated[Hires, BeforeValidator(_given)]
