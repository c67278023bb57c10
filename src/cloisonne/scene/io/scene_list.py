"""Lists of scenes with names: a folder, a JSONL file, a COCO annotation file, or a mapping. They are read in turn."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from PIL import Image

from cloisonne.errors import CloisonneError, SceneError
from cloisonne.scene.io import json_text as wire
from cloisonne.scene.io.importers import coco_id, from_coco
from cloisonne.scene.io.png_record import KEY
from cloisonne.scene.io.quiet import without_warnings
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import brief, quoted

ANNOTATIONS = "annotations.json"
"""Name of the COCO file of a folder of images, which is no scene."""
AGREEMENT = "agreement.json"
"""Name of the summary of a judge, which is no scene either."""
NO_SCENES = (ANNOTATIONS, AGREEMENT)
LINES = (".jsonl", ".ndjson")
"""Endings of files with a scene in each line."""
MAX_NAME = 200
"""Longest name of a scene, in bytes of UTF-8."""
_NAME = re.compile(r'[^\x00-\x1f\x7f/\\:*?"<>|]+')
_FORMS = "give a folder of scenes, a JSONL file with a scene in each line, or a COCO annotation file"


@dataclass(frozen=True, kw_only=True)
class NamedScene:
    """A scene of a list. warnings: of its import, one sentence each."""

    name: str
    scene: Scene
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UnreadableScene:
    """A scene of a list that cannot be read. name: or its place in the list, such as "line 7"."""

    name: str
    error: str


class SceneList(Protocol):
    """Scenes with names; iterating reads them one by one, in a fixed order."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[NamedScene | UnreadableScene]: ...


ScenesLike: TypeAlias = str | PathLike[str] | Mapping[str, Any]
"""The path of a list of scenes, or a mapping from names to scenes in any form."""


def scene_list(given: ScenesLike) -> SceneList:
    """The list of a path or a mapping. Raises SceneError for anything else, and where a file cannot be read."""
    if isinstance(given, Mapping):
        return _Mapping(given)
    if not isinstance(given, str | PathLike):
        raise SceneError(f"The scenes are a {type(given).__name__}; give a path, or a mapping from names to scenes.")
    path = Path(given)
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        raise SceneError(f"There are no scenes at {quoted(path)}; {_FORMS}.")
    if path.suffix.lower() in LINES:
        return LineList(path)
    if path.suffix.lower() == ".json":
        return _Coco(path)
    raise SceneError(f"{quoted(path)} is no list of scenes; {_FORMS}.")


def check_name(name: Any) -> str:
    """The name of a scene, which becomes that of a file. Raises SceneError for one that cannot."""
    wrong = not isinstance(name, str) or not _NAME.fullmatch(name) or name[0] in ". -" or name[-1] in ". "
    if wrong or len(name.encode("utf-8", "replace")) > MAX_NAME or name.encode("utf-8", "replace").decode() != name:
        raise SceneError(
            f"The scene's name is {brief(name)}; give a text that can name a file, of at most {MAX_NAME} bytes."
        )
    return name


def _read(name: str, read: Any) -> NamedScene | UnreadableScene:
    """What ``read`` returns (name, scene, warnings), or the error that it raises."""
    try:
        own, scene, warnings = read()
        return NamedScene(name=check_name(own), scene=scene, warnings=warnings)
    except CloisonneError as error:
        return UnreadableScene(name=name, error=str(error))


class _Folder:
    """The JSON files of a folder and its PNG files that carry a scene, in the order of names.

    Annotations and their agreement are no scenes, nor are other PNG files, images that scenes refer to.
    """

    def __init__(self, folder: Path) -> None:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".json", ".png"))
        scenes = [
            path for path in files if path.suffix.lower() == ".json" and path.name not in (ANNOTATIONS, AGREEMENT)
        ]
        names = {path.stem for path in scenes}
        scenes += [path for path in files if path.suffix.lower() == ".png" and path.stem not in names and _has(path)]
        if not scenes:
            raise SceneError(
                f"There are no scenes in {quoted(folder)}; they are JSON files, or PNG files that carry one."
            )
        self._folder = folder.absolute()
        self._files = sorted(path.name for path in scenes)

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[NamedScene | UnreadableScene]:
        for file in self._files:
            path = self._folder / file
            yield _read(path.stem, lambda path=path: (path.stem, Scene.load(path), ()))


def _has(path: Path) -> bool:
    """Whether a PNG carries a scene."""
    try:
        with without_warnings(), Image.open(path, formats=["PNG"]) as image:
            return KEY in image.info
    # The decoder raises all kinds of exceptions for damaged files.
    except Exception:
        return False


class LineList:
    """A JSONL file: each line is a scene's object with its ``name``; paths are relative to the file's folder."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._count = sum(1 for _ in self._lines())
        if not self._count:
            raise SceneError(f"{quoted(path)} has no scenes; write one in each line, with its name.")

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        try:
            with self._path.open("rb") as file:
                yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
        except OSError as error:
            raise SceneError(f"{quoted(self._path)} cannot be read ({error.strerror}); check the path.") from None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[NamedScene | UnreadableScene]:
        for number, line in self._lines():
            yield _read(f"line {number}", lambda line=line: self.scene(line))

    def scene(self, line: bytes) -> tuple[Any, Scene, tuple[str, ...]]:
        """The name, the scene and the warnings of a line. Raises SceneError."""
        data = wire.parse(line)
        if "name" not in data:
            raise SceneError('The scene has no name; add "name", by which its image is called.')
        name = check_name(data.pop("name"))
        return name, Scene.from_dict(data, base=self._path.parent), ()


class _Coco:
    """A COCO annotation file: each image is a scene, by the name of its id."""

    def __init__(self, path: Path) -> None:
        try:
            data = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise SceneError(f"{quoted(path)} cannot be read as JSON ({error}); {_FORMS}.") from None
        self._images, annotations = _objects(data, "images", path), _objects(data, "annotations", path)
        self._categories = data.get("categories", [])
        self._own: dict[str, list[dict[str, Any]]] = {}
        for annotation in annotations:
            self._own.setdefault(coco_id(annotation.get("image_id")), []).append(annotation)

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[NamedScene | UnreadableScene]:
        for image in self._images:
            name = coco_id(image.get("id"))
            yield _read(name, lambda image=image, name=name: (name, *self._scene(image, name)))

    def _scene(self, image: dict[str, Any], name: str) -> tuple[Scene, tuple[str, ...]]:
        own = {"images": [image], "annotations": self._own.get(name, []), "categories": self._categories}
        scene, warnings = from_coco(own)
        if not scene.regions and not scene.caption:
            raise SceneError(f"The COCO image {name} has neither a region nor a caption; leave it out.")
        return scene, warnings


def _objects(data: Any, name: str, path: Path) -> list[dict[str, Any]]:
    found = data.get(name) if isinstance(data, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SceneError(f"{quoted(path)} has no {name} as COCO has; {_FORMS}.")
    return found


class _Mapping:
    """Names and scenes as values, dicts or paths."""

    def __init__(self, scenes: Mapping[str, Any]) -> None:
        self._scenes = scenes

    def __len__(self) -> int:
        return len(self._scenes)

    def __iter__(self) -> Iterator[NamedScene | UnreadableScene]:
        for name, given in self._scenes.items():
            yield _read(brief(name), lambda name=name, given=given: (name, _scene_of(given), ()))


def _scene_of(given: Any) -> Scene:
    if isinstance(given, Scene):
        return given
    return Scene.from_dict(given) if isinstance(given, Mapping) else Scene.load(Path(given).absolute())
