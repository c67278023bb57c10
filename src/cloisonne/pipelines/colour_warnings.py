"""Warnings about colour spaces of the images that condition a scene: networks read all values as sRGB."""

from collections.abc import Iterator

from cloisonne.scene.conditions.kinds import images_of
from cloisonne.scene.io.colour_space import own_space
from cloisonne.scene.io.images import opened
from cloisonne.scene.scene import Scene


def colour_warnings(scene: Scene) -> Iterator[str]:
    """One warning for each image of a condition, and the outside image, whose colour space is not sRGB.

    The background has its own warning; see ``inpaint``.
    """
    for region in scene.active_regions:
        for role, picture in images_of(region):
            if space := own_space(opened(picture, role, region.name).info):
                yield (
                    f'Region "{region.name}": the colour space of its {role} {picture} is {space}, and its values are '
                    "read as sRGB; convert the image to sRGB."
                )
    if scene.outside is not None and (space := own_space(opened(scene.outside.image, "outside").info)):
        yield (
            f"The colour space of the outside image {scene.outside.image} is {space}, which is preserved; the model "
            "works in sRGB, so convert the image to sRGB if the regions have to match."
        )
