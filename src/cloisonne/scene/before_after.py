"""A scene of edits as two scenes: what is there before, and what is there after."""

from dataclasses import dataclass

from cloisonne.errors import SceneError, spelled
from cloisonne.scene.prompt import switches
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import iou
from cloisonne.scene.values import shown


@dataclass(frozen=True, kw_only=True)
class Halves:
    """before, after: scenes without edits, their regions by the names of the edited scene's. edited: names of the
    regions that change. redrawn: those of them where another thing comes, or one goes (:attr:`Edit.redraws`)."""

    before: Scene
    after: Scene
    edited: tuple[str, ...]
    redrawn: tuple[str, ...]


def halves(scene: Scene) -> Halves:
    """Both scenes. Raises SceneError where nothing is edited, two edits of one place undo each other, or words change
    on the way.
    """
    edits = [(region, region.edit) for region in scene.active_regions if region.edit is not None]
    if not edits:
        raise SceneError(
            'No region has an edit; give one, such as {"kind": "add", "phrase": "a crown"}, or use '
            f"{spelled('generate(...)', 'cloisonne generate')}."
        )
    if scene.outside is not None:
        raise SceneError("The scene keeps a picture outside of regions, which two pictures cannot; leave outside out.")
    for region, edit in edits:
        for other, theirs in edits:
            if {edit.kind, theirs.kind} == {"add", "remove"} and _same_place(region, other):
                raise SceneError(
                    f'Something is added where "{other.name}" removes something; write it as one edit of kind change.',
                    region=region.name,
                )
    _refuse_schedules(scene)
    for owner, loras in [(None, scene.lora), *((region.name, region.lora) for region in scene.active_regions)]:
        if loras:
            raise SceneError(
                f'lora names "{loras[0].name}", but edits hear no LoRAs by region; fuse it for all of the '
                f"picture ({spelled('load(..., lora=FILE)', '--lora FILE')}), or leave it out.",
                region=owner,
            )
    return Halves(
        before=_half(scene, after=False),
        after=_half(scene, after=True),
        edited=tuple(region.name or "" for region, _ in edits),
        redrawn=tuple(region.name or "" for region, edit in edits if edit.redraws),
    )


def _half(scene: Scene, *, after: bool) -> Scene:
    regions = []
    for region in scene.regions:
        edit = region.edit
        if edit is None:
            regions.append(region)
        elif words := edit.words_after if after else edit.words_before:
            regions.append(region.replace(edit=None, phrase=words))
    return scene.replace(regions=tuple(regions))


def _refuse_schedules(scene: Scene) -> None:
    told = [(None, scene.caption), (None, scene.negative)]
    for region in scene.active_regions:
        own = (region.edit.phrase, region.edit.before, region.edit.after) if region.edit else (region.phrase,)
        told += [(region.name, text) for text in (*own, region.negative)]
    for name, text in told:
        if switches(text, 1):
            raise SceneError(
                f"The text {shown(text)} says other words on the way, but both pictures of an edit hear the same words "
                "from beginning to end; leave its [from:to:when] out.",
                region=name,
            )


def _same_place(a: Region, b: Region) -> bool:
    return a is not b and iou(a.bounding_box(), b.bounding_box()) > 0.9
