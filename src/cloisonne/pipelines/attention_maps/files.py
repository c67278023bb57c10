"""Where the pictures of a scene's attention go: the files of a folder."""

import re
from pathlib import Path

from cloisonne.errors import OutputError
from cloisonne.scene import Region, Scene, check_output
from cloisonne.scene.values import quoted

PICTURE = "picture.png"
"""The file of the picture itself, which carries its scene."""


def check_folder(folder: str | Path, scene: Scene, *, overwrite: bool = False) -> None:
    """OutputError where ``AttentionPictures.save`` could not write; to be asked before any work."""
    place = Path(folder)
    if place.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp") or place.is_file():
        raise OutputError(f"The output is {quoted(place)}, but each region makes a picture; name a folder.")
    if not place.is_dir():
        check_output(place.with_name(PICTURE), overwrite=True)
        return
    for path in (place / PICTURE, *(path for _, path in strip_paths(place, scene))):
        check_output(path, overwrite=overwrite)


def strip_paths(folder: Path, scene: Scene) -> list[tuple[Region, Path]]:
    """Where each region's strip goes: its place in the scene, and what of its name a file's name can hold."""
    named = [_file_name(region.name or "") for region in scene.regions]
    return [
        (region, folder / f"{index:02d}-{name}.png")
        for index, (region, name) in enumerate(zip(scene.regions, named, strict=True))
    ]


def _file_name(name: str) -> str:
    plain = re.sub(r"[^\w-]+", "-", name).strip("-") or "region"
    return plain.encode()[:180].decode(errors="ignore")
