"""The region of a scene with a concept, and the rules for such a scene."""

from collections.abc import Sequence

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.region import Region


def translated_region(regions: Sequence[Region]) -> Region | None:
    """The region with a concept, or None.

    Raises:
        SceneError: two regions have a concept, or another one has an edit. Both start from the inverted background, and
            each constrains how it changes.
    """
    found = [region for region in regions if region.concept is not None]
    if not found:
        return None
    if len(found) > 1:
        raise SceneError(
            f'The region has a concept, but region "{found[0].name}" already has one; keep one of them, and translate '
            "the result again with the other.",
            region=found[1].name,
        )
    if edited := next((region for region in regions if region.edit is not None), None):
        raise SceneError(
            f'The region has an edit, but region "{found[0].name}" has a concept, and a scene cannot have both; remove '
            "one of them, and apply it to the result.",
            region=edited.name,
        )
    return found[0]


def check_background(region: Region, background: ImageRef | None, strength: float) -> None:
    """Raise SceneError if there is no background to translate, or if its strength is not 1."""
    if background is None:
        raise SceneError(
            'The region has a concept, but the scene has no background to apply it to; give one, as in "background": '
            '"source.png".',
            region=region.name,
        )
    if strength != 1:
        raise SceneError(
            f"strength is {strength}, but a concept uses all steps; remove strength, and give the concept "
            "concept_strength or keep_structure.",
            region=region.name,
        )
