"""Locks of a data folder, which end with the process that has them, however it ends."""

import sqlite3
from pathlib import Path

from cloisonne.errors import OutputError
from cloisonne.studio.storage.ids import is_id


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


LOCK = ("PRAGMA journal_mode = MEMORY", "BEGIN EXCLUSIVE")
"""Without a second file."""


class Membership:
    """A server of a shared data folder: a file with a lock of its own. Raises OSError where it cannot be made.

    Servers are added and looked at in transactions of the database, so never both at the same time.
    """

    def __init__(self, servers: Path, name: str) -> None:
        self._servers = servers
        servers.mkdir(mode=0o700, exist_ok=True)
        self._own = servers / name
        self._lock = locked(self._own, *LOCK)

    def alive(self) -> set[str]:
        """Names of the servers whose processes run, this one among them; files of the others are deleted."""
        found = {self._own.name}
        for file in self._servers.iterdir():
            if file == self._own or not is_id(file.name):
                continue
            try:
                locked(file, *LOCK).close()
            except OutputError:
                found.add(file.name)
            else:
                file.unlink(missing_ok=True)
        return found

    def end(self) -> None:
        """Leave the folder to the others."""
        self._own.unlink(missing_ok=True)
        self._lock.close()
