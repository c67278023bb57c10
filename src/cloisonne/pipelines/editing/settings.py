"""Settings of an edit: a preset with some of its fields changed."""

from typing import Any

from cloisonne.errors import SceneError
from cloisonne.pipelines.presets import changed
from cloisonne.scene.conditions.edit_presets import PRESETS, Editing
from cloisonne.scene.scene import Scene


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
