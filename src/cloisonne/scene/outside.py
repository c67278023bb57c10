"""A picture that stands outside of some regions: what changes in them leaves every other pixel as it was."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_serializer, model_validator

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import MaskPicture, OutsidePicture
from cloisonne.scene.overlap import uncovered
from cloisonne.scene.region import Region
from cloisonne.scene.shapes.mask_reading import read_mask
from cloisonne.scene.shapes.masks import Mask, resized
from cloisonne.scene.values import Text, Value, shown


class Outside(Value):
    """What is pasted over a drawn picture, everywhere but in some regions.

    image: the picture, as large as the drawn one (path, data URI, PIL image, array or tensor). regions: names of the
    regions that are seen as they were drawn, with their soft edges. mask: what is so besides (white), such as where a
    region was before it moved.
    """

    image: OutsidePicture
    regions: tuple[Text, ...] = ()
    mask: MaskPicture | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.regions and self.mask is None:
            raise SceneError("outside has neither regions nor a mask; name the regions that it lies outside of.")
        return self

    @model_serializer(mode="wrap")
    def _in_json(self, write: Any) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value}

    def covered(self, regions: Sequence[Region], height: int, width: int) -> Mask:
        """[H, W] in [0, 1]: how far each pixel is seen as it was drawn; exactly 0 where the image stands.

        A region counts whether it is heard or not: where one was removed, the picture without it is what is asked for.
        """
        masks = [region.soft_mask(height, width) for region in regions if region.name in self.regions]
        if self.mask is not None:
            masks.append(resized(read_mask(self.mask).values, height, width))
        return 1 - uncovered(masks, height, width)


def given_outside(value: Any) -> Any:
    """What stands outside, from an object of its fields."""
    if value is None or isinstance(value, Outside):
        return value
    if not isinstance(value, Mapping):
        raise SceneError(f'outside is {shown(value)}; give an object {{"image": "old.png", "regions": ["hat"]}}.')
    return Outside(**value)


OutsideField = Annotated[Outside, BeforeValidator(given_outside)]
