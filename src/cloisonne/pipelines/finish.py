"""From final latents to images: decoding, compositing into the given image, and what must not have changed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from cloisonne.models.model import Model
from cloisonne.pipelines.inpaint import BackgroundEdit, as_pixels
from cloisonne.pipelines.prepare import Prepared
from cloisonne.scene.shapes.masks import Mask


@dataclass(kw_only=True, eq=False)
class Finisher:
    """Decodes the images of one prepared scene.

    raw: with a background, the first decoded image before anything of the source is pasted back. raw_differences: of
    each of these images from the source, where it must not change.
    """

    prepared: Prepared
    model: Model
    raw: Image.Image | None = None
    raw_differences: list[int] = field(default_factory=list)

    @property
    def _edit(self) -> BackgroundEdit:
        assert self.prepared.edit is not None, "the scene has a background"
        return self.prepared.edit

    @property
    def _covered(self) -> Mask:
        return self.prepared.covered

    @property
    def has_outside(self) -> bool:
        """Whether there are pixels that must not change."""
        return self.prepared.edit is not None and bool(self.prepared.edit.masks)

    def image(self, z: Tensor) -> Image.Image:
        """Decode latents [C, H, W]; composite them into the background and the scene's ``outside`` image."""
        image = self._decoded(z)
        return image if self.prepared.outside is None else self.prepared.outside.pasted(image)

    def _decoded(self, z: Tensor) -> Image.Image:
        if self.prepared.edit is not None and not self.prepared.steps:
            return self._edit.unchanged()
        pixels = as_pixels(self.model.vae.decode(z[None])[0])
        if self.prepared.edit is None:
            return Image.fromarray(pixels)
        raw = self._edit.whole(pixels)
        self.raw = self.raw or raw
        if self.has_outside:
            self.raw_differences.append(self.difference_outside(raw))
        return self._edit.pasted(pixels, self._covered) if self.prepared.scene.composite else raw

    def outside(self, images: Sequence[Image.Image]) -> dict[str, bool | int | None]:
        """The report's entries about pixels that must not change."""
        differences = [self.difference_outside(image) for image in images] if self.has_outside else []
        return {
            "identical_outside": max(differences) == 0 if differences else None,
            "max_difference_outside": max(differences, default=None),
            "max_difference_outside_raw": max(self.raw_differences, default=None),
        }

    def difference_outside(self, image: Image.Image) -> int:
        """Largest difference of a result from the background outside of the regions, in 0 to 255."""
        return self._edit.difference_outside(image, self._covered)
