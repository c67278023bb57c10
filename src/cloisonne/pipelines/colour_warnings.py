"""Warnings about the colour spaces of given pictures that are read by a network: all values are taken as sRGB."""

from collections.abc import Iterator

from cloisonne.scene.io.colour_space import own_space
from cloisonne.scene.io.image_ref import Picture
from cloisonne.scene.io.images import opened
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


def colour_warnings(scene: Scene) -> Iterator[str]:
    """One sentence for each exemplar, control picture, concept and picture outside whose colours are not in sRGB.

    The background, whose space is kept, has a warning of its own.
    """
    for region in scene.active_regions:
        for role, picture in _pictures(region):
            if space := own_space(opened(picture, role, region.name).info):
                yield (
                    f'Region "{region.name}": the colours of its {role} {picture} are in {space}, and their values are '
                    "read as sRGB; convert the picture to sRGB."
                )
    if scene.outside is not None and (space := own_space(opened(scene.outside.image, "outside").info)):
        yield (
            f"The colours of the picture outside {scene.outside.image} are in {space}, which is kept; the model draws "
            "in sRGB, so convert it to sRGB if the regions shall match."
        )


def _pictures(region: Region) -> Iterator[tuple[str, Picture]]:
    """The pictures that networks read of a region, by their roles in messages."""
    if region.exemplar is not None:
        yield "exemplar", region.exemplar.image
    if (control := region.control) is not None:
        if control.photo is not None:
            yield "photo", control.photo
        elif control.image is not None:
            yield "control map", control.image
    if region.concept is not None and region.concept.image is not None:
        yield "concept", region.concept.image
