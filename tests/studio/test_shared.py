"""Servers that share a data folder: no job is lost or drawn twice, and each answers for all. Without Ray."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from studio_client import BASE, SCENE, TOKEN, events, photo, png, served, settings_in

from cloisonne.errors import OutputError
from cloisonne.studio.intake import made
from cloisonne.studio.settings import Settings
from cloisonne.studio.shared_ledger import SharedLedger
from cloisonne.studio.storage.shared import ATTEMPTS, SharedStore
from cloisonne.studio.storage.store import Store
from cloisonne.studio.studio import Studio

pytestmark = pytest.mark.anyio


def kill(store: SharedStore) -> None:
    """What remains of a server's store after ``kill -9``: the system closes its files, and nothing else is done."""
    store._membership._lock.close()
    store._db.close()
    store._live.close()
    store._lock.close()


def added(store: Store, client: str = "a") -> str:
    return store.add_job(client, "generate", "builtin", {"scene": {}, "options": {}}).id


@pytest.fixture
def pair(tmp_path: Path) -> tuple[SharedStore, SharedStore]:
    return SharedStore(tmp_path / "data"), SharedStore(tmp_path / "data")


async def test_one_server_claims_a_job(pair: tuple[SharedStore, SharedStore]) -> None:
    first, second = pair
    job = added(first)
    assert second.start(job, "x")
    assert not first.start(job, "x")
    picture = made(png(photo()), first.files, "0000", job, 0)
    assert not first.complete(job, {}, [picture])
    assert not first.fail(job, "failed", {})
    assert not first.release(job)
    assert second.complete(job, {}, [made(png(photo()), second.files, "0000", job, 0)])
    assert len(first.job(job).pictures) == 1


async def test_whoever_cancels_a_job_it_is_not_completed(pair: tuple[SharedStore, SharedStore]) -> None:
    first, second = pair
    job = added(first)
    assert second.start(job, "x")
    assert first.fail(job, "cancelled", None)
    assert not second.complete(job, {}, [])
    assert second.job(job).status == "cancelled"


async def test_jobs_of_a_killed_server_are_queued_again(pair: tuple[SharedStore, SharedStore], tmp_path: Path) -> None:
    first, second = pair
    jobs = [added(first) for _ in range(3)]
    assert first.start(jobs[0], "x")
    assert second.start(jobs[1], "x")
    assert second.release_ended() == 0
    kill(first)
    assert second.release_ended() == 1
    assert [second.job(job).status for job in jobs] == ["queued", "running", "queued"]
    assert second.release_ended() == 0
    assert [path.name for path in (tmp_path / "data" / "servers").iterdir()] == [second.server]


async def test_a_job_that_ends_its_servers_fails_in_the_end(tmp_path: Path) -> None:
    observer = SharedStore(tmp_path / "data")
    job = added(observer)
    for attempt in range(ATTEMPTS):
        assert observer.job(job).status == "queued", attempt
        victim = SharedStore(tmp_path / "data")
        assert victim.start(job, "x")
        kill(victim)
        assert observer.release_ended() == 1
    record = observer.job(job)
    assert record.status == "failed"
    assert record.error is not None
    assert record.error["kind"] == "interrupted"


async def test_a_folder_is_shared_by_those_that_share(tmp_path: Path) -> None:
    alone = Store(tmp_path / "data")
    with pytest.raises(OutputError, match="Another server uses"):
        SharedStore(tmp_path / "data")
    alone.close()
    shared = SharedStore(tmp_path / "data")
    with pytest.raises(OutputError, match="Another server uses"):
        Store(tmp_path / "data")
    shared.close()
    Store(tmp_path / "data").close()


async def test_jobs_of_a_server_alone_are_taken_over(tmp_path: Path) -> None:
    alone = Store(tmp_path / "data")
    jobs = [added(alone), added(alone)]
    assert alone.start(jobs[0], "cpu")
    alone.close()
    shared = SharedStore(tmp_path / "data")
    assert shared.recover() == [("a", jobs[0]), ("a", jobs[1])]


@pytest.mark.parametrize("seed", range(12))
async def test_every_job_is_drawn_once_whatever_ends(seed: int, tmp_path: Path) -> None:
    """Servers take, complete, follow and end at random.

    Jobs that a client gave to one server begin in their order, but for those that are begun again.
    """
    rng = np.random.default_rng(seed)
    settings = settings_in(tmp_path / "data")
    ledgers: list[SharedLedger] = []
    drawing: list[tuple[SharedLedger, str]] = []
    begun, again, submitted = dict[tuple[str, str], list[str]](), set[str](), Counter[str]()
    origin: dict[str, tuple[str, str]] = {}

    async def opened() -> SharedLedger:
        ledger = SharedLedger(settings)
        await ledger.open()
        assert ledger._following is not None
        ledger._following.cancel()  # the test decides when it follows
        return ledger

    async def take(ledger: SharedLedger) -> None:
        for job in ledger.queue.take_together(int(rng.integers(1, 3))):
            ledger.running[job] = None
            if await ledger.db(ledger.store.start, job, "x"):
                begun.setdefault(origin[job], []).append(job)
                drawing.append((ledger, job))
            else:
                del ledger.running[job]

    async def end(completes: bool) -> None:
        ledger, job = drawing.pop(int(rng.integers(len(drawing))))
        if completes:
            await ledger.complete(job, {"server": ledger.store.server}, [])
        else:
            again.add(job)
            await ledger.interrupt(job)
        del ledger.running[job]

    async def lose(ledger: SharedLedger) -> None:
        ledgers.remove(ledger)
        lost = [one for one in drawing if one[0] is ledger]
        again.update(job for _, job in lost)
        drawing[:] = [one for one in drawing if one[0] is not ledger]
        await ledger.db(kill, ledger.store)
        ledger._thread.shutdown()
        ledgers.append(await opened())

    ledgers += [await opened() for _ in range(3)]
    for _ in range(150):
        ledger = ledgers[rng.integers(len(ledgers))]
        action = rng.choice(
            ["submit", "take", "follow", "complete", "interrupt", "kill"], p=[0.3, 0.3, 0.2, 0.16, 0.02, 0.02]
        )
        if action == "submit":
            client = str(rng.choice(["a", "b", "c"]))
            submitted[client] += 1
            job = await ledger.db(ledger.store.add_job, client, "generate", "builtin", {"scene": {}})
            origin[job.id] = (client, ledger.store.server)
            ledger.enqueue(client, job)
        elif action == "take":
            await take(ledger)
        elif action == "follow":
            await ledger.db(ledger.store.release_ended)
            await ledger.synchronise()
        elif drawing and action in ("complete", "interrupt"):
            await end(completes=action == "complete")
        elif action == "kill":
            await lose(ledger)
    last = ledgers[0]
    for _ in range(500):
        for ledger in ledgers:
            await ledger.db(ledger.store.release_ended)
            await ledger.synchronise()
            await take(ledger)
        while drawing:
            await end(completes=True)
        if not await last.db(last.store.unfinished):
            break
    jobs = await last.jobs(1000, None)
    assert Counter(job.client for job in jobs) == submitted
    failed = [job for job in jobs if job.status != "done"]
    assert all(job.id in again for job in failed)
    for given, started in begun.items():
        numbers = {job.id: job.number for job in jobs}
        once = [job for job in started if job not in again]
        assert once == sorted(once, key=numbers.__getitem__), given
        assert len(once) == len(set(once)), given
    for ledger in ledgers:
        await ledger.synchronise()
        assert len(ledger.queue) == 0
        assert ledger.channels == {}
        await ledger.close()


async def test_no_client_waits_for_all_jobs_of_another(tmp_path: Path) -> None:
    """With two servers that take in turns, a client's first job is taken among the first of each client."""
    settings = settings_in(tmp_path / "data")
    ledgers = [SharedLedger(settings), SharedLedger(settings)]
    for ledger in ledgers:
        await ledger.open()
    for client, count in (("a", 20), ("b", 1), ("c", 20)):
        for _ in range(count):
            job = await ledgers[0].db(ledgers[0].store.add_job, client, "generate", "builtin", {"scene": {}})
            ledgers[0].enqueue(client, job)
    taken: list[str] = []
    while len(taken) < 12:
        ledger = ledgers[len(taken) % 2]
        await ledger.synchronise()
        job = ledger.queue.take()
        assert job is not None
        assert await ledger.db(ledger.store.start, job, "x")
        ledger.running[job] = None
        taken.append((await ledger.job(job)).client)
    assert "b" in taken[:4]
    assert abs(taken.count("a") - taken.count("c")) <= 2
    for ledger in ledgers:
        await ledger.close()


def shared(settings: Settings) -> Studio:
    return Studio(settings, SharedLedger(settings))


Clients = tuple[httpx.AsyncClient, httpx.AsyncClient]


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[Clients]:
    settings = settings_in(tmp_path / "data")
    async with served(settings, shared) as first, served(settings, shared) as second:
        yield first, second


async def submitted(client: httpx.AsyncClient, **more: Any) -> str:
    answer = await client.post("/v1/jobs", json={"verb": "generate", "scene": SCENE, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def test_each_server_answers_for_all(clients: Clients) -> None:
    first, second = clients
    jobs = [await submitted(first), await submitted(second)]
    for client in clients:
        await client.studio.ledger.synchronise()  # type: ignore[attr-defined]
        found = [(await client.get(f"/v1/jobs/{job}")).json() for job in jobs]
        assert sorted(one["position"] for one in found) == [0, 1]
        assert [one["id"] for one in (await client.get("/v1/jobs")).json()["jobs"]] == jobs[::-1]
        assert (await client.get("/v1/status")).json()["queued"] == 2


async def test_events_and_cancelling_reach_another_server(clients: Clients) -> None:
    """A job that one server draws is read at the other one, and cancelled there."""
    first, second = clients
    job = await submitted(first)
    ledger = first.studio.ledger  # type: ignore[attr-defined]
    assert ledger.queue.take() == job
    stopped: list[str] = []

    async def stop(one: str) -> None:
        stopped.append(one)

    ledger.stop = stop
    ledger.running[job] = None
    assert await ledger.db(ledger.store.start, job, "x")
    reading = asyncio.create_task(second.get(f"/v1/jobs/{job}/events"))
    await asyncio.sleep(0.1)
    for step in range(3):
        await ledger.publish(job, ledger.channels[job], {"stage": "sampling", "step": step}, b"preview %d" % step)
        await asyncio.sleep(0.3)
    assert (await second.get(f"/v1/jobs/{job}/preview")).content == b"preview 2"
    assert (await second.delete(f"/v1/jobs/{job}")).json()["status"] == "cancelled"
    seen = events((await reading).text)
    assert [data["step"] for name, data in seen if name == "progress" and "step" in data] == [0, 1, 2]
    assert seen[-1][0] == "cancelled"
    await ledger.synchronise()
    assert stopped[0] == job
    del ledger.running[job]
    await ledger.synchronise()
    assert job not in ledger.channels
    assert (await second.get(f"/v1/jobs/{job}/preview")).status_code == 404


async def test_a_session_that_ends_at_one_server_ends_at_all(clients: Clients) -> None:
    first, second = clients
    for client in clients:
        del client.headers["authorization"]
    opened = await first.post("/v1/session", json={"token": TOKEN})
    name, _, value = opened.headers["set-cookie"].partition(";")[0].partition("=")
    own = {"cookie": f"{name}={value}", "origin": BASE}
    assert (await second.get("/v1/status", headers=own)).status_code == 200
    assert (await first.delete("/v1/session", headers=own)).status_code == 204
    for client in clients:
        client.cookies.clear()
        assert (await client.get("/v1/status", headers=own)).status_code == 401
