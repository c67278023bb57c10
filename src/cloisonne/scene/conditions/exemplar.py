"""A picture that says what belongs in a region: its subject is drawn there, in another pose and light."""

from collections.abc import Mapping
from typing import Annotated, Any

from PIL import Image
from pydantic import BeforeValidator

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import ExemplarPicture
from cloisonne.scene.io.images import seen
from cloisonne.scene.values import Fraction, Value, shown


class Exemplar(Value):
    """image: the picture (path, data URI, PIL image, array or tensor).

    strength: how much it counts, in [0, 1], against the region's phrase, or without one against the caption.
    """

    image: ExemplarPicture
    strength: Fraction = 1.0

    def rgb(self, region: str | None = None) -> Image.Image:
        """The picture upright, in RGB, what is transparent on white; ImageError names the region."""
        return seen(self.image, "exemplar", region)


def given_exemplar(value: Any) -> Any:
    """An exemplar from its picture alone, or from an object of its fields."""
    if value is None or isinstance(value, Exemplar):
        return value
    if isinstance(value, Mapping) and "image" in value:
        return Exemplar(**value)
    if isinstance(value, Mapping) and not set(value) <= {"path", "sha256"}:
        raise SceneError(f'exemplar is {shown(value)}; give a picture, or an object {{"image": ..., "strength": 1.0}}.')
    return Exemplar.model_validate({"image": value})


ExemplarField = Annotated[Exemplar, BeforeValidator(given_exemplar)]
