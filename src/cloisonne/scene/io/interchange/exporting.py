"""Exports a scene to a file or folder of another format."""

import json
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from cloisonne.errors import SceneError
from cloisonne.scene.io.exporters import to_elements
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.images import opened, orientation, turned_upright
from cloisonne.scene.io.interchange.coco_annotations import to_coco
from cloisonne.scene.io.interchange.mask_files import to_masks
from cloisonne.scene.io.output import write_text
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import brief

Format = Literal["coco", "elements", "masks"]
DEFAULT_SIZE = (512, 512)
"""Width and height where nothing gives them."""


def export_scene(
    scene: Scene, path: str | Path, kind: Format, *, size: tuple[int, int] | None = None, overwrite: bool = False
) -> tuple[list[Path], tuple[str, ...]]:
    """Write a scene in another format.

    Args:
        scene: the scene.
        path: the file; of "masks" the folder.
        kind: "coco", "elements" or "masks".
        size: width and height in pixels of COCO's image and of masks; by default the scene's, or its background's.
        overwrite: replace existing files.

    Returns:
        The written paths, and a sentence for each part that the format cannot hold.

    Raises:
        SceneError: the format is unknown.
        OutputError: a file cannot be written.
    """
    if kind == "masks":
        size, notes = image_size(scene, size)
        paths, warnings = to_masks(scene, path, size, overwrite=overwrite)
        return paths, (*notes, *warnings)
    data, warnings = exported(scene, kind, size=size)
    write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", path, overwrite=overwrite)
    return [Path(path)], warnings


def exported(
    scene: Scene, kind: Format, *, size: tuple[int, int] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The JSON object of a scene in a format that is JSON, and a sentence for each part that it cannot hold."""
    if kind == "elements":
        return to_elements(scene)
    if kind != "coco":
        raise SceneError(f"The format is {brief(kind)}; give one of {', '.join(get_args(Format))}.")
    size, notes = image_size(scene, size)
    data, warnings = to_coco(scene, size)
    return data, (*notes, *warnings)


def image_size(scene: Scene, size: tuple[int, int] | None) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Width and height of a scene's image: those given, the scene's, its background's, or a default with a sentence."""
    if size is not None:
        return size, ()
    if scene.width is not None and scene.height is not None:
        return (scene.width, scene.height), ()
    if scene.background is not None:
        return _upright_size(scene.background), ()
    width, height = scene.width or DEFAULT_SIZE[0], scene.height or DEFAULT_SIZE[1]
    return (width, height), (f"The scene has no size; pixels are those of {width} x {height}.",)


def _upright_size(picture: ImageRef) -> tuple[int, int]:
    image: Image.Image = opened(picture, "background")
    return turned_upright(image, orientation(image)).size
