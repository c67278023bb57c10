"""The store of a data folder that several servers of one machine use at the same time.

A job that is drawn has a claim: the server that draws it, and how often that was tried. Only that server completes it.
When a server ends, however it ends, the next one that notices puts its jobs back into the queue. What changes with
every step, the states of running jobs, is in a database of its own, which need not survive.
"""

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloisonne.errors import OutputError
from cloisonne.studio.storage.ids import new_id
from cloisonne.studio.storage.locks import Membership, locked
from cloisonne.studio.storage.store import INTERRUPTED, Store

ATTEMPTS = 3
"""Servers or workers that may end while they draw a job, before it fails."""
ORPHAN_SECONDS = 3600.0
"""Age at which a picture's file without a row is not one that a server is about to add."""

_CLAIMS = """
CREATE TABLE IF NOT EXISTS claims (job TEXT PRIMARY KEY, server TEXT, attempts INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS ended_sessions (session TEXT PRIMARY KEY);
"""
_STATES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS states (job TEXT PRIMARY KEY, version INTEGER NOT NULL, state TEXT NOT NULL, preview BLOB);
"""


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """A queued or running job. server: that draws it. attempts: how often it was begun."""

    id: str
    client: str
    status: str
    server: str | None
    attempts: int


class SharedStore(Store):
    """The jobs and pictures of a data folder.

    Attributes:
        server: name of this server.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create the folder. Raises OutputError where it cannot be written, or one server has it alone."""
        super().__init__(folder)
        self.server = new_id()
        try:
            self._db.executescript(_CLAIMS)
            self._live = sqlite3.connect(folder / "states.sqlite", isolation_level=None, check_same_thread=False)
            self._live.executescript(_STATES)
            with self._change():
                self._membership = Membership(folder / "servers", self.server)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f'The data folder "{folder}" cannot be used ({error}); choose another one.') from None

    @staticmethod
    def _hold(path: Path) -> sqlite3.Connection:
        return locked(path, "BEGIN", "SELECT * FROM sqlite_master")

    def close(self) -> None:
        """Close the files; the jobs of this server are those of the others."""
        self._membership.end()
        self._live.close()
        super().close()

    def recover(self) -> list[tuple[str, str]]:
        """After a start: release the jobs of ended servers, delete old files without a row; the queued jobs."""
        self.release_ended()
        rows = {row["id"] for row in self._db.execute("SELECT id FROM pictures")}
        self.files.delete_except(rows, before=time.time() - ORPHAN_SECONDS)
        return [(one.client, one.id) for one in self.unfinished() if one.status == "queued"]

    def unfinished(self) -> list[Unfinished]:
        """All queued and running jobs, in the order of their arrival."""
        rows = self._db.execute(
            "SELECT id, client, status, server, coalesce(attempts, 0) AS attempts FROM jobs LEFT JOIN claims "
            "ON claims.job = jobs.id WHERE status IN ('queued', 'running') ORDER BY number"
        )
        return [Unfinished(**{name: row[name] for name in row.keys()}) for row in rows]  # noqa: SIM118

    def start(self, job: str, device: str) -> bool:
        """Claim a queued job, which is running then; False if it is not queued any more."""
        with self._change() as db:
            change = "UPDATE jobs SET status = 'running', started = ?, device = ? WHERE id = ? AND status = 'queued'"
            if not db.execute(change, (time.time(), device, job)).rowcount:
                return False
            claim = "ON CONFLICT (job) DO UPDATE SET server = excluded.server, attempts = attempts + 1"
            db.execute(f"INSERT INTO claims VALUES (?, ?, 1) {claim}", (job, self.server))
            return True

    def _is_own(self, job: str) -> bool:
        own = "SELECT 1 FROM claims WHERE job = ? AND server = ?"
        return self._db.execute(own, (job, self.server)).fetchone() is not None

    def release(self, job: str) -> bool:
        """Put a job of this server back into the queue; False if it was begun too often, or is not its own."""
        with self._change() as db:
            return self._is_own(job) and self._release(db, job)

    def release_ended(self) -> int:
        """Put the running jobs of ended servers back into the queue, or fail those that were begun too often.

        Returns their number.
        """
        with self._change() as db:
            alive = self._membership.alive()
            lost = [one for one in self.unfinished() if one.status == "running" and one.server not in alive]
            for one in lost:
                if not self._release(db, one.id):
                    self._finish(db, "id = ?", (one.id,), "failed", INTERRUPTED)
            return len(lost)

    @staticmethod
    def _release(db: sqlite3.Connection, job: str) -> bool:
        back = (
            "UPDATE jobs SET status = 'queued', started = NULL, device = NULL WHERE id = ? AND status = 'running' "
            "AND NOT EXISTS (SELECT 1 FROM claims WHERE claims.job = jobs.id AND attempts >= ?)"
        )
        released = db.execute(back, (job, ATTEMPTS)).rowcount == 1
        if released:
            db.execute("UPDATE claims SET server = NULL WHERE job = ?", (job,))
        return released

    def erase_job(self, job: str) -> bool:
        """Delete a finished job, its claim and the pictures that it made; False if it is not finished."""
        erased = super().erase_job(job)
        if erased:
            with self._change() as db:
                db.execute("DELETE FROM claims WHERE job = ?", (job,))
        return erased

    def save_state(self, job: str, version: int, state: Mapping[str, Any], preview: bytes | None) -> None:
        """Replace the state of a running job. version: larger than those before."""
        row = (job, version, json.dumps(state), preview)
        self._live.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)", row)

    def states(self, jobs: Sequence[str]) -> dict[str, tuple[int, dict[str, Any]]]:
        """Versions and states of those running jobs that have one."""
        places = ", ".join("?" * len(jobs))
        rows = self._live.execute(f"SELECT job, version, state FROM states WHERE job IN ({places})", tuple(jobs))
        return {row[0]: (row[1], json.loads(row[2])) for row in rows}

    def preview(self, job: str) -> bytes | None:
        """The newest preview of a running job."""
        row = self._live.execute("SELECT preview FROM states WHERE job = ?", (job,)).fetchone()
        return None if row is None else row[0]

    def forget_state(self, job: str) -> None:
        """Delete the state of a job."""
        self._live.execute("DELETE FROM states WHERE job = ?", (job,))


class EndedSessions:
    """Ended sessions of the browsers of all servers. Used by the thread that answers."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "studio.sqlite", isolation_level=None)

    def add(self, session: str, /) -> None:
        """Add one."""
        self._db.execute("INSERT OR IGNORE INTO ended_sessions VALUES (?)", (session,))

    def __contains__(self, session: object, /) -> bool:
        found = "SELECT 1 FROM ended_sessions WHERE session = ?"
        return self._db.execute(found, (session,)).fetchone() is not None

    def close(self) -> None:
        """Close the database."""
        self._db.close()
