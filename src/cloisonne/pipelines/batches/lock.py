"""A lock of a folder, which the system releases when its process ends, however it ends."""

from pathlib import Path

from filelock import FileLock, Timeout

from cloisonne.errors import OutputError

NAME = ".lock"


def locked(folder: Path, refusal: str) -> FileLock:
    """The lock of a folder, which this process has until it releases it.

    Raises OutputError with the sentence ``refusal`` where another process has it, OSError where there can be no file.
    """
    lock = FileLock(folder / NAME, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise OutputError(refusal) from None
    return lock
