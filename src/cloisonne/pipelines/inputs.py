"""The forms of scene and model that the public functions accept."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from cloisonne.errors import CheckpointError, SceneError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.model_spec import ModelSource, ModelSpec
from cloisonne.scene.scene import Scene

SceneLike: TypeAlias = Scene | Mapping[str, Any] | str | PathLike[str]
"""A scene, a dict of its fields, or the path of a JSON file or of a PNG that carries one."""

ModelLike: TypeAlias = Model | ModelSource
"""A loaded model, or what ``load`` takes: a source or a spec, loaded again in each call."""


def as_scene(given: SceneLike, fields: Mapping[str, Any] | None = None) -> Scene:
    """The scene, with ``fields`` that are not None overridden. Raises SceneError or ImageError."""
    if isinstance(given, Scene):
        scene = given
    elif isinstance(given, Mapping):
        scene = Scene.from_dict(given)
    elif isinstance(given, str | PathLike):
        scene = Scene.load(Path(given))
    else:
        raise SceneError(
            f"The scene is a {type(given).__name__}; give a Scene, a dict of its fields, or the path of a JSON file or "
            "of a PNG that carries one."
        )
    changes = {name: value for name, value in (fields or {}).items() if value is not None}
    return scene.replace(**changes) if changes else scene


def as_model(given: ModelLike) -> Model:
    """The model; one given by its source or spec is loaded. Raises CheckpointError or CapabilityError."""
    if isinstance(given, Model):
        return given
    if isinstance(given, ModelSpec | Mapping | str | PathLike):
        return load(given)
    raise CheckpointError(
        f'The model is a {type(given).__name__}; give a loaded model, "builtin", a folder, a file, a hub id, a '
        "ModelSpec, or what cloisonne.from_pipe makes of a diffusers pipeline."
    )
