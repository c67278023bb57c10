"""Settings of a translation: a preset, the scene's changes of it, and the region's ``keep_structure``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from cloisonne.errors import SceneError
from cloisonne.pipelines.presets import changed
from cloisonne.scene.conditions.translation_presets import PRESETS, Translating
from cloisonne.scene.scene import Scene

NAME = "translated"
"""Name of a translation's region."""
FEW = 10
"""Fewer steps give a warning."""


@runtime_checkable
class Progress(Protocol):
    """Receives the stage, the step reached, the number of steps, and the loss while fitting; may raise Cancelled."""

    def __call__(self, what: str, at: int, count: int, loss: float | None = None, /) -> None: ...


def no_progress(what: str, at: int, count: int, loss: float | None = None, /) -> None:
    """A progress callback that does nothing."""


def translating_of(preset: str, keep_structure: float | None, changes: Mapping[str, Any]) -> Translating:
    """A preset with some of its fields changed.

    keep_structure: scales the three shares of the steps (self-attention, cross-attention, features) together. Raises
    SceneError for an unknown preset or field, and for values out of range.
    """
    found = changed(PRESETS, preset, changes, "translating")
    for name in ("looks", "words", "features"):
        if getattr(found, name) > 1:
            raise SceneError(f"{name} is {getattr(found, name)}; give a fraction of the steps, from 0 to 1.")
    if keep_structure is None:
        return found
    if not 0 <= keep_structure <= 1:
        raise SceneError(f"keep_structure is {keep_structure}; give a fraction of the steps, from 0 to 1.")
    factor = keep_structure / found.looks if found.looks else 0.0
    scaled = {name: min(1.0, getattr(found, name) * factor) for name in ("words", "features")}
    return replace(found, looks=keep_structure, **scaled)


def asked_of(scene: Scene) -> tuple[Translating, dict[str, Any]]:
    """The settings of a scene with a concept, and the ``translating`` field of the resolved scene."""
    region = scene.translated
    assert region is not None, "the scene has a concept"
    assert region.concept is not None, "the region has a concept"
    changes = dict(scene.translating)
    preset = str(changes.pop("preset", "fast"))
    return translating_of(preset, region.concept.keep_structure, changes), {"preset": preset, **changes}
