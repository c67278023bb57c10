"""The control map of a region: edges, colours, depth and so on."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, model_serializer, model_validator

from cloisonne.errors import SceneError
from cloisonne.scene.control_maps import DRAWN
from cloisonne.scene.io.image_ref import ON_THE_WIRE, ImageRef, given_as
from cloisonne.scene.values import Value, brief

ControlKind = Literal["canny", "sobel", "color", "sketch", "lineart", "depth", "openpose", "keypose", "seg"]


ControlImageRef = Annotated[ImageRef, PlainValidator(given_as("control")), PlainSerializer(ImageRef.wire), ON_THE_WIRE]


class Control(Value):
    """A control map, stretched over the canvas (or over the background).

    Attributes:
        kind: selects the adapter or ControlNet.
        image: the map.
        photo: an image to compute the map from (``from`` in JSON), for kinds that need no network.
        strength: conditioning scale, in [0, 2].
        conditional_only: leave the map out of the null branch of classifier-free guidance, which then amplifies what
            the map adds. None: the model's default.
    """

    kind: ControlKind
    image: ControlImageRef | None = None
    photo: ControlImageRef | None = None
    strength: float = Field(default=1.0, strict=True, ge=0, le=2)
    conditional_only: bool | None = Field(default=None, strict=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.image is None) == (self.photo is None):
            given = "neither an image nor a photo" if self.image is None else "both an image and a photo"
            raise SceneError(f'control has {given}; give the map as "image", or an image to compute it from as "from".')
        if self.photo is not None and self.kind not in DRAWN:
            raise SceneError(
                f'control has "from", but a map of kind {self.kind} cannot be computed here; give it as '
                f'"image", or choose one of {", ".join(DRAWN)}.'
            )
        return self

    @model_serializer(mode="wrap")
    def _in_json(self, write: Any) -> dict[str, Any]:
        data = write(self)
        return {"from" if name == "photo" else name: value for name, value in data.items() if value is not None}


def given_control(value: Any) -> Any:
    """Make a control from a mapping of its fields."""
    if value is None or isinstance(value, Control):
        return value
    if not isinstance(value, Mapping):
        raise SceneError(f'control is {brief(value)}; give an object {{"kind": "canny", "image": "edges.png"}}.')
    return Control(**{"photo" if name == "from" else name: part for name, part in value.items()})


ControlField = Annotated[Control, BeforeValidator(given_control)]
