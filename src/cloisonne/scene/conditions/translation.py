"""Which region of a scene is translated by a concept, and what a scene that translates cannot hold besides."""

from collections.abc import Sequence

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import Picture
from cloisonne.scene.region import Region


def translated_region(regions: Sequence[Region]) -> Region | None:
    """The one of the regions that has a concept; None where none has.

    SceneError where two have one, or another one has an edit: both begin where the background's own noise ends, and
    each is told what to keep of it.
    """
    found = [region for region in regions if region.concept is not None]
    if not found:
        return None
    if len(found) > 1:
        raise SceneError(
            f'The region has a concept, but "{found[0].name}" has one already, and a scene carries one over; keep one '
            "of them, or translate the result again.",
            region=found[1].name,
        )
    if edited := next((region for region in regions if region.edit is not None), None):
        raise SceneError(
            f'The region has an edit and "{found[0].name}" has a concept; a scene edits or translates, not both, so '
            "leave one out, and do it with the result.",
            region=edited.name,
        )
    return found[0]


def check_background(region: Region, background: Picture | None, strength: float) -> None:
    """SceneError where there is nothing to translate, or not from its own noise."""
    if background is None:
        raise SceneError(
            'The region has a concept, but the scene has no background to carry it over to; give one: "background": '
            '"source.png".',
            region=region.name,
        )
    if strength != 1:
        raise SceneError(
            f"strength is {strength}, but a concept goes through the whole run; leave it out, and give the concept "
            "concept_strength or keep_structure.",
            region=region.name,
        )
