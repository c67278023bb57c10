"""How a scene's concept is carried over: a preset, what the scene changes of it, and what its region says."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from cloisonne.errors import SceneError
from cloisonne.pipelines.presets import changed
from cloisonne.scene.conditions.translation_presets import PRESETS, Translating
from cloisonne.scene.scene import Scene

NAME = "translated"
"""Of the region of a translation."""
FEW = 10
"""Fewer steps are warned of."""


class Progress(Protocol):
    """Is told what is being done, how far, of how much, and the loss where something is fitted; may raise Cancelled."""

    def __call__(self, what: str, at: int, count: int, loss: float | None = None, /) -> None: ...


def told_nothing(what: str, at: int, count: int, loss: float | None = None, /) -> None:
    """The progress that tells nobody."""


def translating_of(preset: str, keep_structure: float | None, changes: Mapping[str, Any]) -> Translating:
    """A preset with some of its fields changed. SceneError for what there is not."""
    found = changed(PRESETS, preset, changes, "translating")
    for name in ("looks", "words", "features"):
        if getattr(found, name) > 1:
            raise SceneError(f"{name} is {getattr(found, name)}; give a share from 0 to 1.")
    if keep_structure is None:
        return found
    if not 0 <= keep_structure <= 1:
        raise SceneError(f"keep_structure is {keep_structure}; give a share from 0 to 1.")
    share = keep_structure / found.looks if found.looks else 0.0
    kept = {name: min(1.0, getattr(found, name) * share) for name in ("words", "features")}
    return replace(found, looks=keep_structure, **kept)


def asked_of(scene: Scene) -> tuple[Translating, dict[str, Any]]:
    """What a scene with a concept asks for, and how a resolved scene says it under ``translating``."""
    region = scene.translated
    assert region is not None, "the scene has a concept"
    assert region.concept is not None, "the region has a concept"
    changes = dict(scene.translating)
    preset = str(changes.pop("preset", "fast"))
    return translating_of(preset, region.concept.keep_structure, changes), {"preset": preset, **changes}
