"""Scenes in uploaded files, of this package and of other tools. They name no files: a path in one is left out."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from cloisonne.errors import CloisonneError, ImageError, SceneError
from cloisonne.scene import from_layers
from cloisonne.scene.conditions.kinds import CONDITIONS
from cloisonne.scene.io import json_text as wire
from cloisonne.scene.io.image_ref import data_uri
from cloisonne.scene.io.interchange.importing import has_foreign_scene, import_bytes, is_image
from cloisonne.scene.io.interchange.layer_folder import SCENE
from cloisonne.scene.io.interchange.psd import SIGNATURE as PSD
from cloisonne.scene.values import brief
from cloisonne.studio import intake, scenes, uploads
from cloisonne.studio.settings import Limits
from cloisonne.studio.storage.files import PictureFiles
from cloisonne.studio.storage.store import Picture

Found: TypeAlias = tuple[Mapping[str, Any], Sequence[str]]
"""A scene's object, and a sentence for each part that was changed or is not carried."""


@dataclass(frozen=True)
class Options:
    """Options of :func:`cloisonne.scene.import_scene`; mask: the bytes of a picture."""

    image_id: str | None = None
    mask: bytes | None = None
    regions: bool = True


def of_picture(data: bytes) -> Found | None:
    """The scene in a picture's metadata; None if it has none. Raises SceneError or ImageError."""
    own = uploads.embedded_scene(data)
    if own is not None:
        return scenes.without_paths(own), ()
    return _of_file("The picture", data, Options()) if has_foreign_scene(data) else None


def of_files(files: Sequence[tuple[str, bytes]], options: Options, limits: Limits) -> Found:
    """The scene of one file of any format, or of several that are the layers of an image. Raises CloisonneError."""
    for name, data in files:
        _check_pixels(data, name, limits)
    if options.mask is not None:
        _check_pixels(options.mask, "mask", limits)
    if len(files) == 1:
        return _of_file(*files[0], options)
    return _of_layers(files)


def stored(
    found: Found, files: PictureFiles, limits: Limits, *, complete: bool
) -> tuple[dict[str, Any], list[Picture]]:
    """A found scene with ids in place of its pictures, whose files are written.

    complete: whether it has to be one that can be drawn; some regions may lack what was a file.
    Raises SceneError or ImageError.
    """
    pictures: list[Picture] = []

    def store(embedded: bytes, role: str) -> str:
        pictures.append(intake.stored(embedded, role, files, limits))
        return pictures[-1].id

    try:
        scenes.check_json(found[0], limits)
        scenes.check_sizes(found[0], limits)
        scene, _ = scenes.with_stored_pictures(found[0], store, limits)
        if complete:
            scenes.scene_of(scene)
        return scene, pictures
    except CloisonneError:
        for picture in pictures:
            files.delete(picture.id)
        raise


def _of_file(name: str, data: bytes, options: Options) -> Found:
    mask = None if options.mask is None else data_uri(options.mask)
    scene, warnings = import_bytes(data, name, image_id=options.image_id, mask=mask, regions=options.regions)
    return _without_files(scene.to_dict(), None, warnings)


def _of_layers(files: Sequence[tuple[str, bytes]]) -> Found:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        for name, data in files:
            path = folder / PurePosixPath(name.replace("\\", "/")).name
            if path.name != SCENE and path.suffix.lower() != ".png":
                raise SceneError(
                    f"{brief(path.name)} is no PNG; several files at once are the layers of one image, with {SCENE} "
                    "or without. Give one file of any other format."
                )
            if path.exists():
                raise SceneError(f"There are two files {brief(path.name)}; give one of them.")
            path.write_bytes(data)
        notes: Sequence[str] = ()
        if (folder / SCENE).is_file():
            given, notes = _without_files(wire.parse((folder / SCENE).read_bytes()), folder, ())
            (folder / SCENE).write_text(wire.text(given))
        try:
            scene, warnings = from_layers(folder)
        except CloisonneError as error:
            raise type(error)(str(error).replace(f"{folder}/", "")) from None
        return _without_files(scene.to_dict(), folder, [*notes, *(one.replace(f"{folder}/", "") for one in warnings)])


def _without_files(data: Mapping[str, Any], folder: Path | None, warnings: Sequence[str]) -> Found:
    """A scene's object whose references to files of the folder are embedded, and without those to other files.

    A condition without its file is left out, and a region without its mask.
    """
    notes = list(warnings)

    def embedded(given: Any, role: str, region: str | None) -> Any:
        if isinstance(given, str) and given.startswith("data:"):
            return given
        if isinstance(given, Mapping) and given.get("sha256"):
            return {"sha256": given["sha256"]}
        path = given.get("path") if isinstance(given, Mapping) else given
        own = (folder / path).resolve() if folder is not None and isinstance(path, str) else None
        if own is not None and own.parent == folder and own.is_file():
            return data_uri(own.read_bytes())
        where = "The scene" if region is None else f'Region "{region}"'
        notes.append(
            f"{where}: the {role} {brief(path or given)} is a file elsewhere and was left out; choose it here."
        )
        return None

    changed = wire.with_pictures(data, embedded)
    if isinstance(changed.get("regions"), list):
        changed["regions"] = [one for region in changed["regions"] if (one := _with_files(region)) is not None]
    outside = changed.get("outside")
    gone = isinstance(outside, Mapping) and None in (outside.get("image", 0), outside.get("mask", 0))
    dropped = {"outside"} if gone else set[str]()
    return {name: value for name, value in changed.items() if value is not None and name not in dropped}, notes


def _with_files(region: Any) -> Any:
    """A region without conditions whose file is gone; None if its mask is."""
    if not isinstance(region, Mapping):
        return region
    if region.get("mask", 0) is None:
        return None
    gone = [row.name for row in CONDITIONS.values() if region.get(row.name, 0) is None or _lacks(region, row.name)]
    return {name: value for name, value in region.items() if name not in gone}


def _lacks(region: Mapping[str, Any], name: str) -> bool:
    value = region.get(name)
    return isinstance(value, Mapping) and any(value.get(field, 0) is None for field in CONDITIONS[name].files)


def _check_pixels(data: bytes, name: str, limits: Limits) -> None:
    """Raise ImageError for a picture or a PSD that has more pixels than allowed, by its header."""
    if is_image(data):
        uploads.check_size(data, name, limits)
    elif data.startswith(PSD):
        height, width = (int.from_bytes(data[start : start + 4], "big") for start in (14, 18))
        if width * height > limits.pixels:
            side = round(limits.pixels**0.5)
            raise ImageError(f"{brief(name)} has {width} x {height} pixels, but at most {side} x {side} are allowed.")
