"""Jobs and pictures on disk: an SQLite database in WAL mode and a folder of PNG files.

One thread uses a store. A picture's file exists before its row, and a job is done in the same transaction that adds its
pictures: whatever interrupts the process, no row lacks its file and no job is half done.
"""

import json
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cloisonne.errors import OutputError
from cloisonne.studio.refusals import StorageFull
from cloisonne.studio.storage.files import PictureFiles
from cloisonne.studio.storage.ids import new_id
from cloisonne.studio.storage.locks import locked

Status = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL: tuple[Status, ...] = ("done", "failed", "cancelled")
INTERRUPTED = {
    "kind": "interrupted",
    "message": "The server stopped while this job was running; run it again.",
    "region": None,
}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, client TEXT NOT NULL, verb TEXT NOT NULL,
    model TEXT NOT NULL, status TEXT NOT NULL, request TEXT NOT NULL, report TEXT, error TEXT,
    created REAL NOT NULL, started REAL, finished REAL, device TEXT, again_of TEXT);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, number);
CREATE TABLE IF NOT EXISTS pictures (
    id TEXT PRIMARY KEY, job TEXT, place INTEGER NOT NULL, name TEXT NOT NULL, width INTEGER NOT NULL,
    height INTEGER NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, created REAL NOT NULL);
CREATE INDEX IF NOT EXISTS pictures_by_job ON pictures (job, place);
CREATE TABLE IF NOT EXISTS inputs (job TEXT NOT NULL, picture TEXT NOT NULL, PRIMARY KEY (job, picture));
CREATE INDEX IF NOT EXISTS inputs_by_picture ON inputs (picture);
CREATE TABLE IF NOT EXISTS document (
    place INTEGER PRIMARY KEY CHECK (place = 0), content TEXT NOT NULL, changed REAL NOT NULL);
"""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A stored picture. job: that made it; None for an upload. bytes: of its PNG file, with its sha256."""

    id: str
    job: str | None
    name: str
    width: int
    height: int
    bytes: int
    sha256: str
    created: float
    place: int = 0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job. number: its place in the order of arrival. request, report and error: JSON values."""

    id: str
    number: int
    client: str
    verb: str
    model: str
    status: Status
    request: dict[str, Any]
    report: dict[str, Any] | None
    error: dict[str, Any] | None
    created: float
    started: float | None
    finished: float | None
    device: str | None
    again_of: str | None
    pictures: tuple[Picture, ...] = ()


class Store:
    """The jobs and pictures of a data folder, which one server at a time may use.

    ``storage/shared.py`` has one for several servers.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create the folder. Raises OutputError where it cannot be written, or another server uses it."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.files = PictureFiles(folder / "pictures")
            self._lock = self._hold(folder / "lock.sqlite")
            self._db = sqlite3.connect(folder / "studio.sqlite", isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f'The data folder "{folder}" cannot be used ({error}); choose another one.') from None

    @staticmethod
    def _hold(path: Path) -> sqlite3.Connection:
        """The lock of the folder, held until this process ends. Raises OutputError."""
        return locked(path, "BEGIN EXCLUSIVE")

    def _is_own(self, job: str) -> bool:
        """Whether this server draws a running job."""
        return True

    def close(self) -> None:
        """Close the files."""
        self._db.close()
        self._lock.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is rolled back where anything fails."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            raise StorageFull(f"The server cannot store anything ({error}); free space on its disk.") from None
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def recover(self) -> list[tuple[str, str]]:
        """After a start: mark interrupted jobs as failed, delete files without a row; (client, id) of queued jobs."""
        with self._change() as db:
            self._finish(db, "status = 'running'", (), "failed", INTERRUPTED)
        self.files.delete_except({row["id"] for row in self._db.execute("SELECT id FROM pictures")})
        rows = self._db.execute("SELECT client, id FROM jobs WHERE status = 'queued' ORDER BY number")
        return [(row["client"], row["id"]) for row in rows]

    @staticmethod
    def _finish(db: sqlite3.Connection, where: str, given: Sequence[Any], status: Status, error: Any) -> int:
        text = None if error is None else json.dumps(error)
        change = f"UPDATE jobs SET status = ?, error = ?, finished = ? WHERE {where}"
        return db.execute(change, (status, text, time.time(), *given)).rowcount

    def add_job(
        self,
        client: str,
        verb: str,
        model: str,
        request: Mapping[str, Any],
        inputs: Sequence[str] = (),
        again_of: str | None = None,
    ) -> Job:
        """Add a queued job. inputs: ids of the pictures that it needs."""
        job = new_id()
        with self._change() as db:
            db.execute(
                "INSERT INTO jobs (id, client, verb, model, status, request, created, again_of) "
                "VALUES (?, ?, ?, ?, 'queued', ?, ?, ?)",
                (job, client, verb, model, json.dumps(request), time.time(), again_of),
            )
            db.executemany("INSERT OR IGNORE INTO inputs VALUES (?, ?)", [(job, one) for one in inputs])
        return self.job(job)

    def start(self, job: str, device: str) -> bool:
        """Mark a queued job as running; False if it is not queued any more."""
        with self._change() as db:
            change = "UPDATE jobs SET status = 'running', started = ?, device = ? WHERE id = ? AND status = 'queued'"
            return db.execute(change, (time.time(), device, job)).rowcount == 1

    def fail(self, job: str, status: Status, error: Mapping[str, Any] | None) -> bool:
        """Mark a queued or running job as failed or cancelled; False if it is finished."""
        with self._change() as db:
            if status == "failed" and not self._is_own(job):
                return False
            return bool(self._finish(db, "id = ? AND status IN ('queued', 'running')", (job,), status, error))

    def complete(self, job: str, report: Mapping[str, Any], pictures: Sequence[Picture]) -> bool:
        """Mark a running job as done, together with its pictures, whose files exist; False if it is not running."""
        with self._change() as db:
            if not self._is_own(job) or not self._finish(db, "id = ? AND status = 'running'", (job,), "done", None):
                return False
            db.execute("UPDATE jobs SET report = ? WHERE id = ?", (json.dumps(report), job))
            for picture in pictures:
                self._insert(db, picture)
            return True

    @staticmethod
    def _insert(db: sqlite3.Connection, p: Picture) -> None:
        row = (p.id, p.job, p.place, p.name, p.width, p.height, p.bytes, p.sha256, p.created)
        db.execute("INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def add_picture(self, picture: Picture) -> None:
        """Add an upload, whose file exists."""
        with self._change() as db:
            self._insert(db, picture)

    def has_job(self, job: str) -> bool:
        """Whether there is such a job."""
        return self._db.execute("SELECT 1 FROM jobs WHERE id = ?", (job,)).fetchone() is not None

    def job(self, job: str) -> Job:
        """A job. Raises KeyError."""
        row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is None:
            raise KeyError(job)
        rows = self._db.execute("SELECT * FROM pictures WHERE job = ? ORDER BY place", (job,))
        return _job(row, tuple(_picture(one) for one in rows))

    def jobs(self, limit: int, before: int | None = None) -> list[Job]:
        """The newest jobs, those with a smaller number than ``before``."""
        rows = self._db.execute(
            "SELECT id FROM jobs WHERE number < ? ORDER BY number DESC LIMIT ?",
            (before if before is not None else 2**62, limit),
        ).fetchall()
        return [self.job(row["id"]) for row in rows]

    def picture(self, picture: str) -> Picture:
        """A picture. Raises KeyError."""
        row = self._db.execute("SELECT * FROM pictures WHERE id = ?", (picture,)).fetchone()
        if row is None:
            raise KeyError(picture)
        return _picture(row)

    def erase_job(self, job: str) -> bool:
        """Delete a finished job and the pictures that it made; False if it is not finished."""
        with self._change() as db:
            gone = db.execute("DELETE FROM jobs WHERE id = ? AND status IN ('done', 'failed', 'cancelled')", (job,))
            if not gone.rowcount:
                return False
            db.execute("DELETE FROM inputs WHERE job = ?", (job,))
            own = [row["id"] for row in db.execute("SELECT id FROM pictures WHERE job = ?", (job,))]
            needed = {one for one in own if self._is_needed(one)}
            db.execute("UPDATE pictures SET job = NULL WHERE job = ?", (job,))
            db.executemany("DELETE FROM pictures WHERE id = ?", [(one,) for one in own if one not in needed])
        for one in own:
            if one not in needed:
                self.files.delete(one)
        return True

    def erase_picture(self, picture: str) -> bool:
        """Delete a picture; False if a job that waits or runs needs it."""
        with self._change() as db:
            if self._is_needed(picture):
                return False
            db.execute("DELETE FROM pictures WHERE id = ?", (picture,))
        self.files.delete(picture)
        return True

    def _is_needed(self, picture: str) -> bool:
        needing = (
            "SELECT 1 FROM inputs JOIN jobs ON jobs.id = inputs.job "
            "WHERE inputs.picture = ? AND jobs.status IN ('queued', 'running')"
        )
        return self._db.execute(needing, (picture,)).fetchone() is not None

    def document(self) -> tuple[Any, float | None]:
        """The unsent document of the page, a JSON value, and when it was saved; None and None where there is none."""
        row = self._db.execute("SELECT content, changed FROM document").fetchone()
        return (None, None) if row is None else (json.loads(row["content"]), row["changed"])

    def save_document(self, document: Mapping[str, Any] | None) -> float:
        """Replace the unsent document. Returns the time."""
        now = time.time()
        with self._change() as db:
            db.execute("INSERT OR REPLACE INTO document VALUES (0, ?, ?)", (json.dumps(document), now))
        return now

    def expire(self, before: float, in_use: Collection[str] = ()) -> int:
        """Delete jobs that finished before a time, then older uploads that no job has, except ``in_use``.

        Returns the number of deleted jobs and uploads.
        """
        rows = self._db.execute("SELECT id FROM jobs WHERE finished < ?", (before,)).fetchall()
        unused = "SELECT id FROM pictures WHERE job IS NULL AND created < ? AND id NOT IN (SELECT picture FROM inputs)"
        erased = sum(self.erase_job(row["id"]) for row in rows)
        uploads = [row["id"] for row in self._db.execute(unused, (before,)).fetchall() if row["id"] not in in_use]
        return erased + sum(self.erase_picture(one) for one in uploads)


def _picture(row: sqlite3.Row) -> Picture:
    return Picture(**{name: row[name] for name in row.keys()})  # noqa: SIM118


def _job(row: sqlite3.Row, pictures: tuple[Picture, ...]) -> Job:
    fields = {name: row[name] for name in row.keys()}  # noqa: SIM118
    for name in ("request", "report", "error"):
        fields[name] = None if fields[name] is None else json.loads(fields[name])
    return Job(**fields, pictures=pictures)
