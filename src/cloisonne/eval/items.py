"""Measurements on disk, one JSON line per item, so that a stopped evaluation can resume."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cloisonne.errors import OutputError

if TYPE_CHECKING:
    from torch import Tensor


class Items:
    """The items of one row, by index, in a file with one line per item.

    A truncated last line is dropped when the file is opened again.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._items: dict[int, dict[str, Any]] = {}
        if file.is_file():
            text = file.read_text("utf-8")
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                file.write_text(whole, "utf-8")
            self._items = {item["index"]: item for item in map(json.loads, whole.splitlines())}

    def __contains__(self, index: int) -> bool:
        return index in self._items

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._items[index]

    def add(self, index: int, item: Mapping[str, Any]) -> None:
        """Append an item; it is on disk when this returns."""
        entry = {"index": index, **item}
        with self._file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry) + "\n")
        self._items[index] = entry


def open_folder(folder: Path, about: Mapping[str, Any]) -> None:
    """Create or reopen a folder for the results of the run that ``about`` describes (JSON values).

    Raises OutputError if it holds results of another run, so that a table never mixes two runs.
    """
    file = folder / "run.json"
    wanted = json.loads(json.dumps(about))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            write_whole(file, json.dumps(wanted, indent=1) + "\n")
        before = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder} cannot hold the results ({error}): choose another folder.") from error
    for key in {**before, **wanted}:
        if before.get(key) != wanted.get(key):
            raise OutputError(
                f"{folder} holds results with {key} {before.get(key)!r}, not {wanted.get(key)!r}: "
                "choose another folder, or delete this one."
            )


def write_whole(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it, so that it is never incomplete."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)


def save_picture(rgb: np.ndarray, path: Path) -> None:
    """Write an image, uint8 [H, W, 3], and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)


def short(embedding: "Tensor") -> list[float]:
    """An embedding [D] as a list, rounded to five significant digits."""
    return [float(f"{value:.5g}") for value in embedding.tolist()]
