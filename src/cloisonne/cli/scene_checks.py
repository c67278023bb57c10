"""Checks of a scene that need no network library, so that a refusal comes at once."""

from cloisonne.pipelines.translation.settings import asked_of
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
        if region.exemplar is not None:
            region.exemplar.rgb(region.name)
        if region.control is not None and region.control.photo is not None:
            open_rgb(region.control.photo, "photo", region.name)
        if region.control is not None and region.control.image is not None:
            open_rgb(region.control.image, "control map", region.name)
        if region.concept is not None and region.concept.image is not None:
            open_rgb(region.concept.image, "concept", region.name)
