"""Lists of scenes, those of benchmarks of layouts among them."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from cloisonne.errors import SceneError
from cloisonne.eval.detection.coco_mig import read_mig
from cloisonne.scene.io.scene_list import NamedScene, SceneList, ScenesLike, UnreadableScene, scene_list

HEAD = 65536
"""Bytes of a JSON file that decide whether it is COCO-MIG's, which has "segment" where COCO has "segmentation"."""


class MigList:
    """The layouts of COCO-MIG, called by their numbers in the benchmark's order here: 0000, 0001, ..."""

    def __init__(self, path: Path) -> None:
        self._layouts = read_mig(path).layouts

    def __len__(self) -> int:
        return len(self._layouts)

    def __iter__(self) -> Iterator[NamedScene | UnreadableScene]:
        for layout in self._layouts:
            yield NamedScene(name=f"{layout.index:04d}", scene=layout.scene())


def listed(scenes: ScenesLike) -> SceneList:
    """The list of a path or a mapping: what :func:`scene_list` reads, and COCO-MIG's files. Raises SceneError."""
    if isinstance(scenes, str | PathLike) and Path(scenes).is_file() and _is_mig(Path(scenes)):
        return MigList(Path(scenes))
    return scene_list(scenes)


def _is_mig(path: Path) -> bool:
    if path.suffix.lower() in (".yaml", ".yml"):
        return True
    if path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as file:
            return b'"segment"' in file.read(HEAD)
    except OSError as error:
        raise SceneError(f'"{path}" cannot be read ({error.strerror}); check the path.') from None
