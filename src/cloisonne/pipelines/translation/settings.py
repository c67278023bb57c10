"""Settings of a translation: a preset, the scene's changes of it, and the region's ``keep_structure``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.pipelines.presets import changed
from cloisonne.scene.conditions.translation_presets import PRESETS, Translating
from cloisonne.scene.scene import Scene

NAME = "translated"
"""Name of a translation's region."""
FEW = 10
"""Fewer steps give a warning."""


def translating_of(preset: str, keep_structure: float | None, changes: Mapping[str, Any]) -> Translating:
    """A preset with some of its fields changed.

    keep_structure: scales the three shares of the steps (self-attention, cross-attention, features) together; where the
    image flows, it is the fraction of the steps before that. Raises SceneError for an unknown preset or field, and for
    values out of range.
    """
    found = changed(PRESETS, preset, changes, "translating")
    for name in ("self_attention_share", "cross_attention_share", "features"):
        if getattr(found, name) > 1:
            raise SceneError(f"{name} is {getattr(found, name)}; give a fraction of the steps, from 0 to 1.")
    _check_flow(preset, found, changes)
    if found.interrogate and not found.learned:
        raise SceneError(
            f'interrogate is true, but the preset "{preset}" takes no words; choose the preset "interrogate".'
        )
    if keep_structure is None:
        return found
    if not 0 <= keep_structure <= 1:
        raise SceneError(f"keep_structure is {keep_structure}; give a fraction of the steps, from 0 to 1.")
    if found.flow:
        return replace(found, flow_start=1 - keep_structure)
    factor = keep_structure / found.self_attention_share if found.self_attention_share else 0.0
    scaled = {name: min(1.0, getattr(found, name) * factor) for name in ("cross_attention_share", "features")}
    return replace(found, self_attention_share=keep_structure, **scaled)


def _check_flow(preset: str, found: Translating, changes: Mapping[str, Any]) -> None:
    """Raise SceneError for fields of FlowEdit out of range, without it, or next to those of inversion."""
    if not found.flow:
        if name := next((name for name in ("flow_start", "n_avg") if name in changes), None):
            raise SceneError(f'{name} is given, but the preset "{preset}" does not flow; choose the preset "flow".')
        return
    if not 0 <= found.flow_start <= 1:
        raise SceneError(f"flow_start is {found.flow_start}; give a fraction of the steps, from 0 to 1.")
    if found.n_avg < 1:
        raise SceneError(f"n_avg is {found.n_avg}; give a whole number of at least 1.")
    if found.pivot != "none":
        raise SceneError(f'pivot is "{found.pivot}", but flow reconstructs nothing; leave one of both out.')


def asked_of(scene: Scene) -> tuple[Translating, dict[str, Any]]:
    """The settings of a scene with a concept, and the ``translating`` field of the resolved scene."""
    region = scene.translated
    assert region is not None, "the scene has a concept"
    assert region.concept is not None, "the region has a concept"
    changes = dict(scene.translating)
    preset = str(changes.pop("preset", "fast"))
    return translating_of(preset, region.concept.keep_structure, changes), {"preset": preset, **changes}
