"""File names for the attention images of a scene."""

import re
from pathlib import Path

from cloisonne.errors import OutputError
from cloisonne.scene import Region, Scene, check_output
from cloisonne.scene.values import quoted

PICTURE = "picture.png"
"""File name of the generated image, which carries its scene."""


def check_folder(folder: str | Path, scene: Scene, *, overwrite: bool = False) -> None:
    """Raise OutputError where ``AttentionPictures.save`` could not write; call it before any work."""
    place = Path(folder)
    if place.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp") or place.is_file():
        raise OutputError(f"The output is the file {quoted(place)}, but each region gets an image; name a folder.")
    if not place.is_dir():
        check_output(place.with_name(PICTURE), overwrite=True)
        return
    for path in (place / PICTURE, *(path for _, path in strip_paths(place, scene))):
        check_output(path, overwrite=overwrite)


def strip_paths(folder: Path, scene: Scene) -> list[tuple[Region, Path]]:
    """Each region's strip: its index in the scene and the characters of its name that a file name can hold."""
    named = [_file_name(region.name or "") for region in scene.regions]
    return [
        (region, folder / f"{index:02d}-{name}.png")
        for index, (region, name) in enumerate(zip(scene.regions, named, strict=True))
    ]


def _file_name(name: str) -> str:
    plain = re.sub(r"[^\w-]+", "-", name).strip("-") or "region"
    return plain.encode()[:180].decode(errors="ignore")
