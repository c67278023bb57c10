"""An image that is pasted outside of some regions, so that every other pixel stays as it was."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_serializer, model_validator

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import MaskImageRef, OutsideImageRef
from cloisonne.scene.overlap import uncovered
from cloisonne.scene.region import Region
from cloisonne.scene.shapes.mask_reading import read_mask
from cloisonne.scene.shapes.masks import Mask, resized
from cloisonne.scene.values import Text, Value, brief


class Outside(Value):
    """An image that is pasted over the generated image, everywhere but in some regions.

    Attributes:
        image: the image, of the size of the generated one (path, data URI, PIL image, array or tensor).
        regions: names of the regions that stay as generated, with their soft edges.
        mask: further pixels that stay as generated (white), such as the old place of a region that moved.
    """

    image: OutsideImageRef
    regions: tuple[Text, ...] = ()
    mask: MaskImageRef | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.regions and self.mask is None:
            raise SceneError("outside has neither regions nor a mask; name the regions that stay as generated.")
        return self

    @model_serializer(mode="wrap")
    def _in_json(self, write: Any) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value}

    def covered(self, regions: Sequence[Region], height: int, width: int) -> Mask:
        """Mask [H, W] in [0, 1] of the pixels that stay as generated; exactly 0 where the image is pasted.

        Inactive regions are included: where one was removed, the result must not contain it.
        """
        masks = [region.soft_mask(height, width) for region in regions if region.name in self.regions]
        if self.mask is not None:
            masks.append(resized(read_mask(self.mask).values, height, width))
        return 1 - uncovered(masks, height, width)


def given_outside(value: Any) -> Any:
    """Make an Outside from a mapping of its fields."""
    if value is None or isinstance(value, Outside):
        return value
    if not isinstance(value, Mapping):
        raise SceneError(f'outside is {brief(value)}; give an object {{"image": "old.png", "regions": ["hat"]}}.')
    return Outside(**value)


OutsideField = Annotated[Outside, BeforeValidator(given_outside)]
