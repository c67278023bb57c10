"""The concept of a region: a subject or style, transferred to the background without changing its structure."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_serializer, model_validator

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import ConceptImageRef, LearnedFile
from cloisonne.scene.values import Fraction, Text, Value, brief


class ConceptImage(Value):
    """A concept, given as an image or as a file learned from one.

    Attributes:
        image: the reference image (path, data URI, PIL image, array or tensor).
        file: embeddings learned from an image, a safetensors file (path, bytes or data URI). Nothing is trained then.
        keep_structure: fraction of the steps, in [0, 1], that use the background's attention; None takes that of the
            scene's ``translating``.
        concept_strength: in [0, 1]; 0 is the background.
        word: initialises the embeddings to learn.
    """

    image: ConceptImageRef | None = None
    file: LearnedFile | None = None
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


ConceptField = Annotated[ConceptImage, BeforeValidator(given_concept)]
