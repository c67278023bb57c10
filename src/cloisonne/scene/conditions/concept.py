"""The concept of a region: a subject or style, transferred to the background without changing its structure."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, model_serializer, model_validator

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import ON_THE_WIRE, ImageRef, given_as, given_learned
from cloisonne.scene.values import Fraction, Text, Value, brief

given_concept_image = given_as("concept")
ConceptImageRef = Annotated[ImageRef, PlainValidator(given_concept_image), PlainSerializer(ImageRef.wire), ON_THE_WIRE]
LearnedFile = Annotated[ImageRef, PlainValidator(given_learned), PlainSerializer(ImageRef.wire), ON_THE_WIRE]


class ConceptImage(Value):
    """A concept, given as an image or as a file learned from one.

    Attributes:
        image: the reference image (path, data URI, PIL image, array or tensor).
        file: embeddings learned from an image, a safetensors file (path, bytes or data URI). Nothing is trained then.
        content: embeddings learned from the background, where the preset learns them; a file as ``file``.
        keep_structure: fraction of the steps, in [0, 1], that use the background's attention; None takes that of the
            scene's ``translating``.
        concept_strength: in [0, 1]; 0 is the background.
        word: initialises the embeddings to learn; where the preset reads, the words of the concept, or alternatives
            with "|" between them.
    """

    image: ConceptImageRef | None = None
    file: LearnedFile | None = None
    content: LearnedFile | None = None
    keep_structure: Fraction | None = None
    concept_strength: Fraction = 1.0
    word: Text = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.image is None and self.file is None:
            raise SceneError(
                'concept has neither an image nor a file; give a reference image as "image", or a file learned from '
                'one as "file".'
            )
        return self

    @model_serializer(mode="wrap")
    def _in_json(self, write: Any) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None}


def given_concept(value: Any) -> Any:
    """Make a concept from an image or from a mapping of its fields."""
    if value is None or isinstance(value, ConceptImage):
        return value
    if isinstance(value, Mapping) and not ("path" in value or "sha256" in value):
        if not value:
            raise SceneError(f'concept is {brief(value)}; give an image, or an object {{"image": "ref.png"}}.')
        return ConceptImage(**value)
    return ConceptImage.model_validate({"image": value})


def check_concept(region: Any) -> None:
    """Raise SceneError if a region with a concept has a seed, or an interval of the steps."""
    if region.seed is not None:
        raise SceneError(f"seed is {region.seed}, but a concept starts from the inverted background; remove seed.")
    if region.active and (region.start, region.stop) != (0, 1):
        raise SceneError(
            f"start is {region.start} and stop is {region.stop}, but a concept applies to all steps; remove them, and "
            "give the concept keep_structure, the fraction of the steps that preserve the background's structure."
        )


ConceptField = Annotated[ConceptImage, BeforeValidator(given_concept)]
