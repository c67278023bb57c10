"""Split a scene with edits into two scenes: before and after the edits."""

from dataclasses import dataclass

from cloisonne.errors import SceneError, spelled
from cloisonne.scene.prompt import switches
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import iou
from cloisonne.scene.values import brief


@dataclass(frozen=True, kw_only=True)
class BeforeAfter:
    """The scenes before and after the edits.

    Attributes:
        before, after: scenes without edits. Regions keep the names that they have in the edited scene.
        edited: names of the regions with an edit.
        redrawn: those of ``edited`` whose object is added, removed or replaced (:attr:`Edit.redraws`).
    """

    before: Scene
    after: Scene
    edited: tuple[str, ...]
    redrawn: tuple[str, ...]


def halves(scene: Scene) -> BeforeAfter:
    """Split a scene into before and after.

    Raises:
        SceneError: no region has an edit, two edits of one place undo each other, or the scene uses what edits do not
            support (``outside``, LoRAs, prompt schedules).
    """
    edits = [(region, region.edit) for region in scene.active_regions if region.edit is not None]
    if not edits:
        raise SceneError(
            'No region has an edit; give one, such as "edit": {"kind": "add", "phrase": "a crown"}, or use '
            f"{spelled('generate(...)', 'cloisonne generate')}."
        )
    if scene.outside is not None:
        raise SceneError(
            "outside is given, but an edit generates two images, before and after, and cannot use it; remove outside."
        )
    for region, edit in edits:
        for other, other_edit in edits:
            if {edit.kind, other_edit.kind} == {"add", "remove"} and _same_place(region, other):
                raise SceneError(
                    f'The edit adds something where region "{other.name}" removes something; replace both by one '
                    'edit of kind "change".',
                    region=region.name,
                )
    _refuse_schedules(scene)
    for owner, loras in [(None, scene.lora), *((region.name, region.lora) for region in scene.active_regions)]:
        if loras:
            raise SceneError(
                f'lora names "{loras[0].name}", but edits do not support LoRAs in a scene; fuse it into the model '
                f"({spelled('load(..., lora=FILE)', '--lora FILE')}), or remove it.",
                region=owner,
            )
    return BeforeAfter(
        before=_one_scene(scene, after=False),
        after=_one_scene(scene, after=True),
        edited=tuple(region.name or "" for region, _ in edits),
        redrawn=tuple(region.name or "" for region, edit in edits if edit.redraws),
    )


def _one_scene(scene: Scene, *, after: bool) -> Scene:
    regions = []
    for region in scene.regions:
        edit = region.edit
        if edit is None:
            regions.append(region)
        elif phrase := edit.words_after if after else edit.words_before:
            regions.append(region.replace(edit=None, phrase=phrase))
    return scene.replace(regions=tuple(regions))


def _refuse_schedules(scene: Scene) -> None:
    texts = [(None, scene.caption), (None, scene.negative)]
    for region in scene.active_regions:
        own = (region.edit.phrase, region.edit.before, region.edit.after) if region.edit else (region.phrase,)
        texts += [(region.name, text) for text in (*own, region.negative)]
    for name, text in texts:
        if switches(text, 1):
            raise SceneError(
                f"The text {brief(text)} changes during sampling, but an edit uses the same text at every step; remove "
                "its [from:to:when].",
                region=name,
            )


def _same_place(a: Region, b: Region) -> bool:
    return a is not b and iou(a.bounding_box(), b.bounding_box()) > 0.9
