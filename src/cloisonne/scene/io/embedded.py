"""Scenes from outside, as a server gets them: every file is embedded in the scene, and no path or URL is followed."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.region import Region
from cloisonne.scene.values import Value, brief


def check_embedded(scene: Value) -> None:
    """Raise SceneError, naming the region and the field, if a scene refers to a file or names a LoRA by a path.

    An image that the scene has only the SHA-256 of passes: it cannot be read until it is given again.
    """
    for region, field, value in references(scene):
        if isinstance(value, ImageRef) and value.path is not None:
            raise SceneError(
                f'{field} refers to a file, {value}, but only embedded files are accepted here; give it as "data:...".',
                region=region,
            )
        if isinstance(value, Lora) and _is_path(value.name):
            raise SceneError(
                f"{field} is {brief(value.name)}, a path; give the name that the model was loaded with it under.",
                region=region,
            )


def references(value: Any, region: str | None = None, field: str = "") -> Iterator[tuple[str | None, str, Any]]:
    """Everything in a scene that can name a file: region (None for the scene's own), field, and ImageRef or Lora."""
    if isinstance(value, ImageRef | Lora):
        yield region, field, value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references(item, region, field)
    elif isinstance(value, Region):
        for name, part in value:
            yield from references(part, value.name, name)
    elif isinstance(value, Value | Mapping):
        for name, part in value.items() if isinstance(value, Mapping) else value:
            yield from references(part, region, f"{field}.{name}" if field else name)


def _is_path(name: str) -> bool:
    """Whether a name has several parts as a path or URL, or starts in a home folder."""
    return name.startswith("~") or max(len(kind(name).parts) for kind in (PurePosixPath, PureWindowsPath)) > 1
