"""A lock of an output folder, which the system releases when its process ends, however it ends."""

import os
import sys
from pathlib import Path

from cloisonne.errors import OutputError
from cloisonne.scene.values import quoted

NAME = ".lock"


class FolderLock:
    """The lock of a folder. Raises OutputError where another process has it, OSError where the file cannot be made."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(self._file)
        except OSError:
            os.close(self._file)
            raise OutputError(
                f"Another process writes into {quoted(folder)}; wait until it ends, or choose another folder."
            ) from None

    def release(self) -> None:
        """Let other processes have it."""
        os.close(self._file)


def _lock(file: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
