"""Settings of an edit: a preset with some of its fields changed."""

from typing import Any

from cloisonne.errors import SceneError
from cloisonne.pipelines.presets import changed
from cloisonne.scene.conditions.edit_presets import PRESETS, Editing
from cloisonne.scene.scene import Scene

OF_FLOW = ("flow_start", "n_avg", "source_guidance")
"""Fields that only FlowEdit uses."""
OF_INVERSION = ("inversion", "fresh_noise")
"""Fields that only inversion uses."""


def editing_of(preset: str, changes: Any) -> Editing:
    """A preset with some of its fields changed. Raises SceneError for unknown names and values out of range."""
    found = changed(PRESETS, preset, changes, "editing")
    for name in ("self_attention_share", "limit", "fresh_noise"):
        if (getattr(found, name) or 0) > 1:
            raise SceneError(f"{name} is {getattr(found, name)}; give a number from 0 to 1.")
    if found.reuse_background and not found.follow:
        raise SceneError(
            "reuse_background is true and follow is false, but a background is reused where nothing changes; leave one "
            "of both out."
        )
    _check_flow(preset, found, changes)
    return found


def _check_flow(preset: str, found: Editing, changes: Any) -> None:
    """Raise SceneError for fields of FlowEdit out of range, or next to fields that it does not use."""
    if not found.flow:
        if name := next((name for name in OF_FLOW if name in changes), None):
            raise SceneError(f'{name} is given, but the preset "{preset}" does not flow; choose the preset "flow".')
        return
    if found.flow_start is not None and not 0 < found.flow_start <= 1:
        raise SceneError(f"flow_start is {found.flow_start}; give a fraction of the steps, above 0 and at most 1.")
    if found.n_avg < 1:
        raise SceneError(f"n_avg is {found.n_avg}; give a whole number of at least 1.")
    if unused := next((name for name in OF_INVERSION if getattr(found, name) != getattr(Editing(), name)), None):
        raise SceneError(f"{unused} is {getattr(found, unused)}, but flow needs no inversion; leave one of both out.")
    if not found.follow:
        raise SceneError("follow is false, but flow changes nothing outside of the edited regions; leave follow out.")


def chosen(scene: Scene, preset: str | None, changes: dict[str, Any], *, segments: bool) -> tuple[str, dict[str, Any]]:
    """The name of the preset and the changes of its fields: those given, else the scene's.

    Without a preset, a given image flows, unless fields of other presets are changed. segments: the model has a
    segmenter.
    """
    given = {**({} if preset else dict(scene.editing)), **changes}
    own = given.pop("preset", None)
    if named := preset or own:
        return str(named), given
    if scene.background is not None and given.keys() <= {*OF_FLOW, "reuse_background"}:
        return "flow", given
    return "mrgd" if segments else "follow", given


def check_editing(scene: Scene, preset: str | None, changes: dict[str, Any]) -> None:
    """Raise SceneError where :func:`~cloisonne.pipelines.editing.edit.edit` refuses the preset or a change of it."""
    editing_of(*chosen(scene, preset, changes, segments=False))
