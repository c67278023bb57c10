"""Locks of a data folder, which end with the process that has them, however it ends."""

import shutil
import sqlite3
from pathlib import Path

from cloisonne.errors import OutputError
from cloisonne.pipelines.batches.lock import FolderLock


def locked(path: Path, *statements: str) -> sqlite3.Connection:
    """Hold a lock on a data folder until this process ends. statements: take the lock."""
    lock = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    try:
        for statement in statements:
            lock.execute(statement).fetchall()
    except sqlite3.OperationalError:
        lock.close()
        raise OutputError(
            f'Another server uses the data folder "{path.parent}"; stop that one, or choose another folder with --data.'
        ) from None
    return lock


class Membership:
    """A server of a shared data folder: a folder with a lock of its own. Raises OSError where it cannot be made.

    Servers are added and looked at in transactions of the database, so never both at the same time.
    """

    def __init__(self, servers: Path, name: str) -> None:
        self._servers = servers
        self._own = servers / name
        self._own.mkdir(parents=True, mode=0o700)
        self._lock = FolderLock(self._own)

    def alive(self) -> set[str]:
        """Names of the servers whose processes run, this one among them; folders of the others are deleted."""
        found = {self._own.name}
        for folder in self._servers.iterdir():
            if folder == self._own:
                continue
            try:
                FolderLock(folder).release()
            except OutputError:
                found.add(folder.name)
            except FileNotFoundError:  # it has just ended
                continue
            else:
                shutil.rmtree(folder, ignore_errors=True)
        return found

    def end(self) -> None:
        """Leave the folder to the others."""
        shutil.rmtree(self._own, ignore_errors=True)
        self._lock.release()
