"""Checks of a scene that need no network library, so that a refusal comes at once."""

from cloisonne.pipelines.translation.settings import asked_of
from cloisonne.scene.conditions.kinds import images_of
from cloisonne.scene.io.images import load_mask, open_rgb
from cloisonne.scene.io.source_image import Source
from cloisonne.scene.scene import Scene


def check_scene(scene: Scene) -> None:
    """Raise SceneError for invalid translation settings, ImageError for a missing or damaged image."""
    if scene.translated is not None:
        asked_of(scene)
    if scene.background is not None:
        Source.load(scene.background)
    if scene.outside is not None:
        Source.load(scene.outside.image, "outside")
    for region in scene.active_regions:
        if region.mask is not None:
            load_mask(region.mask, region.name)
        for role, image in images_of(region):
            open_rgb(image, role, region.name)
