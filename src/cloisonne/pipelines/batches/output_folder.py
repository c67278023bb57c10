"""The folder of a batch: finished images under their names, and the manifest that lists them.

An image is written under a temporary name, then its line is written, then it gets its name. Whatever moment a process
ends at, opening the folder completes the images that have a line, and removes what has none.
"""

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from cloisonne.errors import OutputError, spelled
from cloisonne.pipelines.batches.lock import locked
from cloisonne.pipelines.batches.manifest import KEYS, NAME, Line, Maker, Manifest, read_lines, request_digest
from cloisonne.scene.values import quoted

_TEMPORARY = re.compile(r"\.(.+\.png)\.([0-9a-f]{16})\.tmp")


class OutputFolder:
    """The folder, locked for one process.

    Args:
        folder: made if it is missing.
        overwrite: images whose scene or model has changed are replaced, and files that the manifest does not list.

    Raises:
        OutputError: the folder cannot be written, is in use, or has a manifest of something else.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False) -> None:
        self.path = folder
        self._overwrite = overwrite
        self._finished: dict[str, bytes] = {}
        self._maker: Maker | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = locked(
                folder, f"Another process writes into {quoted(folder)}; wait until it ends, or choose another folder."
            )
        except OSError as error:
            raise self._cannot_write(error) from None
        try:
            self._manifest = Manifest(folder)
            self._complete()
        except OSError as error:
            self._lock.release()
            raise self._cannot_write(error) from None

    def close(self) -> None:
        """Let other processes write into it."""
        self._manifest.close()
        self._lock.release()

    def __enter__(self) -> "OutputFolder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _complete(self) -> None:
        """Give images that have a line their names, and remove all other temporary files."""
        temporary = {match[1] for name in os.listdir(self.path) if (match := _TEMPORARY.fullmatch(name))}
        last: dict[str, str] = {}
        line = None
        for line in self._manifest.lines():
            self._finished[line.file] = line.digest()
            if line.file in temporary:
                last[line.file] = line.sha256
        self._maker = None if line is None else line.maker
        for file, sha256 in last.items():
            path = _temporary(self.path, file, sha256)
            if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
                path.replace(self.path / file)
        present = set()
        for name in os.listdir(self.path):
            if _TEMPORARY.fullmatch(name):
                (self.path / name).unlink()
            else:
                present.add(name)
        for file in self._finished.keys() - present:
            del self._finished[file]

    def check_maker(self, maker: Maker) -> None:
        """Raise OutputError where the folder has images that something else made, unless they may be replaced."""
        if self._overwrite or self._maker is None or not self._finished or self._maker.key() == maker.key():
            return
        differences = [
            f"{name} {old} and not {new}"
            for name, old, new in zip(KEYS, self._maker.key(), maker.key(), strict=True)
            if old != new
        ]
        raise OutputError(
            f"The images in {quoted(self.path)} were made with {', '.join(differences)}; choose another folder, or "
            f"allow to replace them with {spelled('overwrite=True', '--overwrite')}."
        )

    def has(self, file: str, scene: str, seed: int, maker: Maker) -> bool:
        """Whether an image is finished.

        Raises OutputError where the folder has another image of this name, unless it may be replaced.
        """
        finished = self._finished.get(file)
        if finished == request_digest(scene, seed, maker):
            return True
        if not self._overwrite and (finished is not None or (self.path / file).exists()):
            why = "is of another scene or model" if finished else "is not in the folder's manifest"
            allowed = spelled("overwrite=True", "--overwrite")
            raise OutputError(
                f'The output "{file}" exists and {why}; choose another folder, or allow to replace it with {allowed}.'
            )
        return False

    def add(self, line: Line, png: bytes) -> None:
        """Write an image and its line. Raises OutputError where the disk does not take them, with neither left."""
        path = _temporary(self.path, line.file, line.sha256)
        try:
            try:
                with path.open("wb") as file:
                    file.write(png)
                    file.flush()
                    os.fsync(file.fileno())
                self._manifest.append(line)
            except OSError:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                raise
            path.replace(self.path / line.file)
        except OSError as error:
            raise self._cannot_write(error) from None
        self._finished[line.file] = line.digest()

    def _cannot_write(self, error: OSError) -> OutputError:
        if isinstance(error, OutputError):
            return error
        return OutputError(
            f"The folder {quoted(self.path)} cannot be written ({error.strerror}); free space on its disk or choose "
            "another one. A second call goes on where this one stopped."
        )


def _temporary(folder: Path, file: str, sha256: str) -> Path:
    return folder / f".{file}.{sha256[:16]}.tmp"


def finished_lines(folder: Path) -> list[Line]:
    """The last line of each image of a folder that is there, by file name."""
    last = {line.file: line for line in read_lines(folder / NAME)}
    return [last[file] for file in sorted(last) if (folder / file).exists()]
