"""What is on disk stays consistent: after a kill, with a full disk, with two servers, after deletions."""

import shutil
import time
from collections import deque
from pathlib import Path

import pytest
from studio_client import photo, png

from cloisonne.errors import OutputError
from cloisonne.studio.intake import made, stored
from cloisonne.studio.refusals import StorageFull
from cloisonne.studio.settings import Limits
from cloisonne.studio.storage.files import PictureFiles
from cloisonne.studio.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


def added(store: Store, client: str = "a", inputs: tuple[str, ...] = ()) -> str:
    return store.add_job(client, "generate", "builtin", {"scene": {}}, inputs).id


def reopened(store: Store, tmp_path: Path) -> Store:
    """The store of a server that starts after the other was killed: what was written so far, in another folder."""
    shutil.copytree(tmp_path / "data", tmp_path / "after")
    store.close()
    return Store(tmp_path / "after")


def test_a_killed_server_loses_no_job_and_doubles_none(store: Store, tmp_path: Path) -> None:
    jobs = [added(store, client) for client in "aabb"]
    picture = made(png(photo()), store.files, "0000", jobs[0], 0)
    assert store.start(jobs[0], "cpu")
    assert store.complete(jobs[0], {"seconds": 1}, [picture])
    assert store.start(jobs[1], "cpu")
    orphan = made(png(photo()), store.files, "0000", jobs[1], 0)
    after = reopened(store, tmp_path)
    assert after.recover() == [("b", jobs[2]), ("b", jobs[3])]
    assert [after.job(job).status for job in jobs] == ["done", "failed", "queued", "queued"]
    assert after.job(jobs[0]).pictures == (picture,)
    assert after.files.read(picture.id) == png(photo())
    error = after.job(jobs[1]).error
    assert error is not None
    assert error["kind"] == "interrupted"
    assert not after.files.path(orphan.id).exists()
    assert after.recover() == [("b", jobs[2]), ("b", jobs[3])]
    after.close()


@pytest.mark.parametrize("state", ["queued", "done", "failed", "cancelled"])
def test_only_a_queued_job_starts_and_only_a_running_one_is_done(store: Store, state: str) -> None:
    job = added(store)
    if state == "done":
        store.start(job, "cpu")
        store.complete(job, {}, [])
    elif state != "queued":
        store.fail(job, state, None)  # type: ignore[arg-type]
    assert store.start(job, "cpu") is (state == "queued")
    assert store.start(job, "cpu") is False
    assert store.complete(job, {}, []) is (state == "queued")
    assert store.complete(job, {}, []) is False
    assert store.fail(job, "failed", None) is False
    store.close()


def test_a_full_disk_is_a_sentence_and_changes_nothing(store: Store) -> None:
    """SQLite's own limit of pages, which answers as a full disk does."""
    jobs = [added(store) for _ in range(2)]
    store.start(jobs[0], "cpu")
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFull, match="free space"):
        deque((added(store) for _ in range(1000)), maxlen=0)
    before = len(store.jobs(2000))
    with pytest.raises(StorageFull):
        store.complete(jobs[0], {"text": "x" * 10**6}, [])
    assert store.job(jobs[0]).status == "running"
    assert len(store.jobs(2000)) == before
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert store.complete(jobs[0], {}, [])
    store.close()


def test_a_picture_that_cannot_be_written_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = PictureFiles(tmp_path / "pictures")
    kept = files.write(b"kept")

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageFull, match="No space left on device"):
        files.write(b"lost")
    assert [path.stem for path in (tmp_path / "pictures").rglob("*.*")] == [kept]


def test_one_server_a_folder(store: Store, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Another server uses"):
        Store(tmp_path / "data")
    store.close()
    Store(tmp_path / "data").close()


def test_a_file_as_data_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be used"):
        Store(tmp_path / "file")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a" * 31, "A" * 32, "", "..", "0" * 33, "0" * 31 + "/"]
)
def test_only_ids_name_files(store: Store, name: str) -> None:
    """Cases 10 to 13: a name from outside never becomes a path."""
    for call in (store.files.path, store.files.read, store.files.delete):
        with pytest.raises(KeyError):
            call(name)
    store.close()


def test_paths_lie_below_the_folder(store: Store, tmp_path: Path) -> None:
    path = store.files.path(store.files.write(png(photo())))
    assert path.resolve().is_relative_to((tmp_path / "data" / "pictures").resolve())
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
    store.close()


def test_deleting_spares_what_waiting_jobs_need(store: Store) -> None:
    upload = stored(png(photo()), "picture", store.files, Limits())
    store.add_picture(upload)
    first = added(store, inputs=(upload.id,))
    assert not store.erase_picture(upload.id)
    assert not store.erase_job(first)
    store.start(first, "cpu")
    result = made(png(photo(seed=1)), store.files, "0000", first, 0)
    store.complete(first, {}, [result])
    second = added(store, inputs=(result.id,))
    assert store.erase_job(first)
    assert store.files.path(result.id).is_file(), "the second job needs it"
    assert store.picture(result.id).job is None
    store.fail(second, "cancelled", None)
    assert store.erase_picture(result.id)
    assert not store.files.path(result.id).exists()
    assert store.erase_picture(upload.id)
    store.close()


def test_retention_deletes_what_is_old_and_finished(store: Store) -> None:
    upload = stored(png(photo()), "picture", store.files, Limits())
    store.add_picture(upload)
    old, waiting = added(store, inputs=(upload.id,)), added(store)
    store.start(old, "cpu")
    result = made(png(photo()), store.files, "0000", old, 0)
    store.complete(old, {}, [result])
    assert store.expire(time.time() - 3600) == 0
    assert store.expire(time.time() + 1) == 2
    assert [job.id for job in store.jobs(10)] == [waiting]
    assert not store.files.path(result.id).exists()
    assert not store.files.path(upload.id).exists()
    store.close()
