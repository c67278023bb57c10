"""Lists of scenes, those of benchmarks of layouts among them."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from cloisonne.errors import CloisonneError, SceneError
from cloisonne.eval.detection.coco_mig import read_mig
from cloisonne.pipelines.batches.layoutsam import from_layoutsam, is_layoutsam
from cloisonne.scene.io import json_text as wire
from cloisonne.scene.io.scene_list import (
    LINES,
    LineList,
    NamedScene,
    SceneList,
    ScenesLike,
    UnreadableScene,
    scene_list,
)
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import quoted

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


class LayoutSamList(LineList):
    """Rows of LayoutSAM, one in each line."""

    def scene(self, line: bytes) -> tuple[Any, Scene, tuple[str, ...]]:
        """The name, the scene and the warnings of a row. Raises SceneError."""
        return from_layoutsam(wire.parse(line))


def listed(scenes: ScenesLike) -> SceneList:
    """The list of a path or a mapping: what :func:`scene_list` reads, COCO-MIG's files, and rows of LayoutSAM.

    The first line of a JSONL file decides what its lines are. Raises SceneError.
    """
    path = Path(scenes) if isinstance(scenes, str | PathLike) else None
    if path is None or not path.is_file():
        return scene_list(scenes)
    try:
        if _is_mig(path):
            return MigList(path)
        return LayoutSamList(path) if _is_layoutsam(path) else scene_list(path)
    except OSError as error:
        raise SceneError(f"{quoted(path)} cannot be read ({error.strerror}); check the path.") from None


def _is_layoutsam(path: Path) -> bool:
    if path.suffix.lower() not in LINES:
        return False
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
    try:
        return is_layoutsam(wire.parse(first))
    except CloisonneError:
        return False  # its line reports that


def _is_mig(path: Path) -> bool:
    if path.suffix.lower() in (".yaml", ".yml"):
        return True
    if path.suffix.lower() != ".json":
        return False
    with path.open("rb") as file:
        return b'"segment"' in file.read(HEAD)
