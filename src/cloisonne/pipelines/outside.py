"""The scene's ``outside``: an earlier image that replaces the new one outside of some regions."""

from dataclasses import dataclass

from PIL import Image

from cloisonne.errors import SceneError
from cloisonne.scene.io.images import orientation, turned_upright
from cloisonne.scene.io.source_image import Source, matched, rgb_pixels
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.masks import Mask


@dataclass(frozen=True, kw_only=True, eq=False)
class OutsideImage:
    """source: the earlier image. covered: [H, W] in [0, 1], how much of the new image each pixel shows."""

    source: Source
    covered: Mask

    @classmethod
    def of(cls, scene: Scene, size: tuple[int, int]) -> "OutsideImage | None":
        """The scene's ``outside`` for images of size (width, height); None without one.

        Raises SceneError where the earlier image has another size.
        """
        if scene.outside is None:
            return None
        source = Source.load(scene.outside.image, "outside")
        if (source.width, source.height) != size:
            raise SceneError(
                f"The image of outside has {source.width} x {source.height} pixels, but the scene is generated at "
                f"{size[0]} x {size[1]}; give the scene that size, or leave outside out."
            )
        return cls(source=source, covered=scene.outside.covered(scene.regions, source.height, source.width))

    def pasted(self, drawn: Image.Image) -> Image.Image:
        """The earlier image, in its mode and with its metadata, with the new image composited by ``covered``."""
        pixels = rgb_pixels(turned_upright(drawn, orientation(drawn)))
        return self.source.pasted(matched(pixels, self.source.rgb, self.covered > 0), self.covered)
