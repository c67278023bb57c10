"""``manifest.jsonl``: a line of JSON for each finished image of a folder. A line is on the disk before its image is.

A line is written in one piece; what an interrupted write left of one is removed when the file is opened.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cloisonne.errors import OutputError
from cloisonne.scene.values import quoted

NAME = "manifest.jsonl"
KEYS = ("model", "dtype", "device", "threads")
"""Names of the values of ``Maker.key``."""


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What makes images, and decides on their bytes besides the scene.

    Attributes:
        model: hash of the weights and options.
        device: such as "cpu", or "cuda" with the chip's name.
        dtype: of the networks.
        threads: of the processor; it changes the last bits on a CPU.
    """

    model: str
    device: str
    dtype: str
    threads: int

    @property
    def on_cpu(self) -> bool:
        """Whether each image is a forward pass of its own."""
        return self.device == "cpu"

    def key(self) -> tuple[object, ...]:
        """What the bytes depend on: of a GPU neither its name nor the threads."""
        return self.model, self.dtype, self.device.split()[0].split(":")[0], self.threads if self.on_cpu else 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """A finished image.

    Attributes:
        file: its name in the folder.
        name: of its scene.
        scene: the scene's content hash.
        seed: of the image.
        sha256: of the file.
        width, height: in pixels.
        dropped: regions that the model did not take.
        warnings: what else the image does not honour.
        model, device, dtype, threads: as in :class:`Maker`.
    """

    file: str
    name: str
    scene: str
    seed: int
    sha256: str
    width: int
    height: int
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]
    model: str
    device: str
    dtype: str
    threads: int

    @property
    def maker(self) -> Maker:
        """What made it."""
        return Maker(model=self.model, device=self.device, dtype=self.dtype, threads=self.threads)

    def digest(self) -> bytes:
        """16 bytes of its scene, seed and maker."""
        return request_digest(self.scene, self.seed, self.maker)


def request_digest(scene: str, seed: int, maker: Maker) -> bytes:
    """16 bytes of a hash of what an image's bytes depend on."""
    return hashlib.sha256(repr((scene, seed, maker.key())).encode()).digest()[:16]


class Manifest:
    """The open file, for one process. Raises OSError where it cannot be opened, OutputError where it is no manifest."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        self._length = whole_length(self._file)
        os.ftruncate(self._file, self._length)

    def lines(self) -> Iterator[Line]:
        """The lines, in the order in which they were written."""
        return read_lines(self.path)

    def append(self, line: Line) -> None:
        """Add a line, and wait until it is on the disk. Raises OSError, with the file as it was."""
        data = (json.dumps(asdict(line), separators=(",", ":")) + "\n").encode()
        try:
            if os.write(self._file, data) < len(data):
                raise OSError(28, "No space left on device")
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._length)
            raise
        self._length += len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def whole_length(file: int) -> int:
    """Bytes of a file up to the end of its last whole line."""
    end = os.fstat(file).st_size
    with os.fdopen(os.dup(file), "rb") as stream:
        while end > 0:
            start = max(end - 65536, 0)
            stream.seek(start)
            place = stream.read(end - start).rfind(b"\n")
            if place >= 0:
                return start + place + 1
            end = start
    return 0


def read_lines(path: Path) -> Iterator[Line]:
    """The whole lines of a manifest. Raises OutputError where one is something else."""
    with path.open("rb") as file:
        for number, text in enumerate(file, 1):
            if text.endswith(b"\n"):
                yield _line(text, number, path)


def _line(text: bytes, number: int, path: Path) -> Line:
    try:
        fields: dict[str, Any] = json.loads(text)
        lists = {name: tuple(fields[name]) for name in ("dropped", "warnings")}
        line = Line(**{**fields, **lists})
    except (ValueError, TypeError, KeyError):
        raise OutputError(f"{quoted(path)} is no manifest of images (line {number}); choose another folder.") from None
    if os.path.basename(line.file) != line.file or not line.file.endswith(".png"):
        raise OutputError(f"{quoted(path)} names a file outside of its folder (line {number}); choose another folder.")
    return line
