"""A subject or style, shown by a picture, that a region of the background takes over while its structure stays."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_serializer, model_validator

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import ConceptPicture, LearnedFile
from cloisonne.scene.values import Fraction, Text, Value, shown


class ConceptImage(Value):
    """image: the picture that shows the concept (path, data URI, PIL image, array or tensor). file: what was learned of
    one, a safetensors file (path, bytes or data URI), in place of learning.

    keep_structure: share of the walk, in [0, 1], in which the result looks as the background does; None takes that of
    the way of translating. concept_strength: how much of the concept counts, in [0, 1]; 0 is the background. word:
    where learning begins.
    """

    image: ConceptPicture | None = None
    file: LearnedFile | None = None
    keep_structure: Fraction | None = None
    concept_strength: Fraction = 1.0
    word: Text = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.image is None and self.file is None:
            raise SceneError(
                'concept has neither an image nor a file; give the picture that shows it as "image", or what was '
                'learned of one as "file".'
            )
        return self

    @model_serializer(mode="wrap")
    def _in_json(self, write: Any) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None}


def given_concept(value: Any) -> Any:
    """A concept from its picture alone, or from an object of its fields."""
    if value is None or isinstance(value, ConceptImage):
        return value
    if isinstance(value, Mapping) and not ("path" in value or "sha256" in value):
        if not value:
            raise SceneError(f'concept is {shown(value)}; give a picture, or an object {{"image": "ref.png"}}.')
        return ConceptImage(**value)
    return ConceptImage.model_validate({"image": value})


ConceptField = Annotated[ConceptImage, BeforeValidator(given_concept)]
