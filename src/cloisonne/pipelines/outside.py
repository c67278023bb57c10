"""What stands outside of some regions, whatever is drawn there: an earlier picture, pasted over a new one."""

from dataclasses import dataclass

from PIL import Image

from cloisonne.errors import SceneError
from cloisonne.scene.io.images import orientation, turned_upright
from cloisonne.scene.io.source_image import Source, rgb_pixels
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.masks import Mask


@dataclass(frozen=True, kw_only=True, eq=False)
class OutsideImage:
    """source: the picture that stays. covered: [H, W] of it, how far each pixel is seen as it was drawn."""

    source: Source
    covered: Mask

    @classmethod
    def of(cls, scene: Scene, size: tuple[int, int]) -> "OutsideImage | None":
        """What a scene keeps, where its pictures are of size (width, height); None where it keeps nothing.

        Raises SceneError where the picture that stays is of another size.
        """
        if scene.outside is None:
            return None
        source = Source.load(scene.outside.image, "outside")
        if (source.width, source.height) != size:
            raise SceneError(
                f"The picture that stays outside of regions has {source.width} x {source.height} pixels, but the scene "
                f"is drawn at {size[0]} x {size[1]}; leave the size as it was, or leave outside out."
            )
        return cls(source=source, covered=scene.outside.covered(scene.regions, source.height, source.width))

    def pasted(self, drawn: Image.Image) -> Image.Image:
        """The picture that stays, in its mode and with its metadata, and a drawn one where that is seen."""
        return self.source.pasted(rgb_pixels(turned_upright(drawn, orientation(drawn))), self.covered)
