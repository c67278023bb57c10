"""Fields of presets that 0.1 called otherwise: scenes of 0.1 are read with them, everything else names the new ones."""

from collections.abc import Collection, Mapping
from typing import Any

from cloisonne.errors import SceneError

RENAMED: Mapping[str, Mapping[str, str]] = {
    "editing": {
        "looks": "self_attention_share",
        "fresh": "fresh_noise",
        "room": "close_up",
        "tight": "paste_changed_only",
    },
    "translating": {"looks": "self_attention_share", "words": "cross_attention_share"},
}
"""Old and new names, by the field of a scene that holds the preset."""


def new_name(name: str, known: Collection[str]) -> str | None:
    """The present name, among those known, of a field that 0.1 called ``name``; None if there is none."""
    return next((names[name] for names in RENAMED.values() if names.get(name) in known), None)


def with_new_names(scene: Mapping[str, Any]) -> dict[str, Any]:
    """A scene's object with the fields of its presets under their present names.

    Raises:
        SceneError: a field is given under both names.
    """
    renamed = {
        field: _renamed(scene[field], names)
        for field, names in RENAMED.items()
        if isinstance(scene.get(field), Mapping)
    }
    return {**scene, **renamed}


def _renamed(preset: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    for old, new in names.items():
        if old in preset and new in preset:
            raise SceneError(f"{new} and {old} are the same; give {new} alone.")
    return {names.get(name, name): value for name, value in preset.items()}
