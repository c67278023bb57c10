"""The exemplar of a region: a reference image whose subject is generated there, in another pose and lighting."""

from collections.abc import Mapping
from typing import Annotated, Any

from PIL import Image
from pydantic import BeforeValidator, PlainSerializer, PlainValidator

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import ON_THE_WIRE, ImageRef, given_as
from cloisonne.scene.io.images import open_rgb
from cloisonne.scene.values import Fraction, Value, brief

ExemplarImageRef = Annotated[
    ImageRef, PlainValidator(given_as("exemplar")), PlainSerializer(ImageRef.wire), ON_THE_WIRE
]


class Exemplar(Value):
    """A reference image.

    Attributes:
        image: the image (path, data URI, PIL image, array or tensor).
        strength: weight in [0, 1], relative to the region's phrase, or to the caption if there is none.
        bottleneck: condition on the pooled features of the image alone, as in Paint by Example (arXiv 2211.13227,
            section 3.2): the pose is freer, and details of the subject are lost.
    """

    image: ExemplarImageRef
    strength: Fraction = 1.0
    bottleneck: bool = False

    def rgb(self, region: str | None = None) -> Image.Image:
        """The image upright, in RGB, with transparent pixels on white. Raises ImageError, which names ``region``."""
        return open_rgb(self.image, "exemplar", region)


def given_exemplar(value: Any) -> Any:
    """Make an exemplar from an image or from a mapping of its fields."""
    if value is None or isinstance(value, Exemplar):
        return value
    if isinstance(value, Mapping) and "image" in value:
        return Exemplar(**value)
    if isinstance(value, Mapping) and not set(value) <= {"path", "sha256"}:
        raise SceneError(f'exemplar is {brief(value)}; give an image, or an object {{"image": ..., "strength": 1.0}}.')
    return Exemplar.model_validate({"image": value})


def check_exemplar(region: Any) -> None:
    """Raise SceneError if a region with an exemplar has its guidance scale under two names."""
    if region.similarity is not None and region.guidance is not None:
        raise SceneError(
            f"guidance is {region.guidance} and similarity is {region.similarity}, which are the same option of an "
            "exemplar; keep one."
        )


ExemplarField = Annotated[Exemplar, BeforeValidator(given_exemplar)]
