"""Settings of an edit: a preset with some of its fields changed."""

from collections.abc import Sequence
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.methods.answers import OPTIONS
from cloisonne.pipelines.presets import changed
from cloisonne.scene.conditions.edit_presets import PRESETS, Editing
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

OF_TEXT = ("weight", "start, stop", "negative", "guidance", "strict")
"""Region options that apply to the region's text alone."""


def editing_of(preset: str, changes: Any) -> Editing:
    """A preset with some of its fields changed. Raises SceneError for unknown names and values out of range."""
    found = changed(PRESETS, preset, changes, "editing")
    for name in ("self_attention_share", "limit", "fresh_noise"):
        if (getattr(found, name) or 0) > 1:
            raise SceneError(f"{name} is {getattr(found, name)}; give a number from 0 to 1.")
    return found


def check_editing(scene: Scene, preset: str | None, changes: dict[str, Any]) -> None:
    """Raise SceneError where :func:`~cloisonne.pipelines.editing.edit.edit` refuses the preset or a change of it."""
    given = {**({} if preset else dict(scene.editing)), **changes}
    own = given.pop("preset", "follow")
    editing_of(preset or str(own), given)


def refuse_unused(regions: Sequence[Region]) -> None:
    """Raise SceneError if a region without any text after its edit sets an option that only applies to text."""
    for region in regions:
        if region.edit is None or region.edit.kind != "remove":
            continue
        if option := next((option for option in OF_TEXT if OPTIONS[option](region)), None):
            raise SceneError(
                f"The region sets {option}, but it removes something from a given image and has no phrase afterwards; "
                f'leave {option} out, or write it as an edit of kind change with a phrase for "to".',
                region=region.name,
            )
