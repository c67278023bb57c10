"""What goes wrong with processes, disks and clients of a real server: no job is lost, every failure is a sentence."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from studio_client import SCENE, Process, environment, photo, png, server, until

from cloisonne.models.builtin import BUILTIN
from cloisonne.studio.storage.store import INTERRUPTED, Store

pytestmark = [
    pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is missing"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals"),
]
LONG = SCENE | {"width": 256, "height": 256, "steps": 200}


def submit(client: httpx.Client, scene: dict[str, Any] = SCENE, **arguments: Any) -> str:
    answer = client.post("/v1/jobs", json={"verb": "generate", "scene": scene, "arguments": arguments})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    return until(
        lambda: (found := client.get(f"/v1/jobs/{job}").json())["status"] not in ("queued", "running") and found
    )


def drawing(client: httpx.Client, job: str) -> None:
    """Wait until a job's first preview is there."""
    until(lambda: client.get(f"/v1/jobs/{job}/preview").status_code == 200)


def test_a_killed_worker_and_a_killed_server(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with server(data) as first, first.client() as client:
        finished = submit(client)
        assert ended(client, finished)["status"] == "done"
        broken, after = submit(client, LONG), submit(client)
        drawing(client, broken)
        (worker,) = first.workers()
        os.kill(worker, signal.SIGKILL)
        found = ended(client, broken)
        assert found["status"] == "failed"
        assert found["error"]["kind"] == "interrupted"
        assert found["error"]["message"].endswith("ended (signal 9) in this job; run it again.")
        assert ended(client, after)["status"] == "done", "the next worker goes on with the queue"
        running, queued = submit(client, LONG), [submit(client, SCENE | {"seed": seed}) for seed in range(3)]
        drawing(client, running)
        (worker,) = first.workers()
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        until(lambda: not _alive(worker))
    with server(data) as second, second.client() as client:
        jobs = {job["id"]: job for job in client.get("/v1/jobs?limit=200").json()["jobs"]}
        assert set(jobs) == {finished, broken, after, running, *queued}
        assert len(client.get(jobs[finished]["pictures"][0]["url"]).content) > 1000
        assert jobs[running]["error"]["message"] == "The server stopped while this job was running; run it again."
        seeds = [ended(client, job)["report"]["scene"]["seed"] for job in queued]
        assert seeds == [0, 1, 2]
        again = client.post(f"/v1/jobs/{running}/again", json={}).json()["id"]
        drawing(client, again)
        (worker,) = second.workers()
        with client.stream("GET", f"/v1/jobs/{again}/events") as watched:
            assert watched.status_code == 200
            second.process.terminate()
            assert second.process.wait(timeout=60) in (0, -signal.SIGTERM)
        until(lambda: not _alive(worker))
    store = Store(data)
    assert store.job(again).error == INTERRUPTED
    assert {job.id for job in store.jobs(200)} == {*jobs, again}
    store.close()


def _alive(pid: int) -> bool:
    """Whether a process draws on: it is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server for all tests that leave it as it was."""
    with server(tmp_path_factory.mktemp("studio") / "data") as running, running.client() as client:
        until(lambda: client.get("/v1/status").json()["devices"][0]["state"] == "ready")
        yield running


@contextmanager
def full_disk(running: Process) -> Iterator[None]:
    """The server's files cannot grow beyond 12 kB, which its database has and a picture of noise needs."""
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (12_000, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        everything = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, everything)


def test_a_full_disk_is_a_sentence_and_the_server_goes_on(running: Process) -> None:
    with running.client() as client:
        picture = client.post("/v1/pictures", files={"file": ("a.png", png(photo(64, 64)))}).json()["id"]
        with full_disk(running):
            full = client.post("/v1/pictures", files={"file": ("a.png", png(photo(256, 256)))})
            assert full.status_code == 507
            assert "free space on its disk" in full.json()["error"]["message"]
            refused = client.post("/v1/jobs", json={"verb": "generate", "scene": SCENE})
            assert refused.status_code == 507
            assert client.get(f"/v1/pictures/{picture}").status_code == 200
            assert client.get("/v1/status").json()["queued"] == 0
        assert ended(client, submit(client))["status"] == "done"


def test_a_disk_that_fills_up_while_a_job_is_drawn(running: Process) -> None:
    """The job fails, even though this cannot be stored at first."""
    with running.client() as client:
        job = submit(client, LONG | {"steps": 40})
        drawing(client, job)
        with full_disk(running):
            found = ended(client, job)
            assert found["status"] == "failed"
            assert "free space on its disk" in found["error"]["message"]
        assert ended(client, submit(client))["status"] == "done"
        again = client.post(f"/v1/jobs/{job}/again", json={})
        assert again.status_code == 202
        client.delete(f"/v1/jobs/{again.json()['id']}")
        until(lambda: client.delete(f"/v1/jobs/{job}/record").status_code == 204)


def test_clients_that_never_read_break_off_or_send_slowly(running: Process) -> None:
    """Sockets that stall or close: the server goes on, the jobs too, and its memory stays where it was."""
    with running.client() as client:
        job = submit(client, LONG)
        before = _memory(running.process.pid)
        half = "POST /v1/jobs HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 1000"
        stalled = [_socket(running, f"GET /v1/jobs/{job}/events HTTP/1.1", receive=1) for _ in range(20)]
        halves = [_socket(running, half) for _ in range(20)]
        for one in stalled[:10]:
            one.close()  # a tab closed in the middle
        drawing(client, job)
        second = submit(client)
        broken = client.post("/v1/jobs", content=b"{", headers={"content-type": "application/json"})
        assert broken.status_code == 422
        client.delete(f"/v1/jobs/{job}")
        assert ended(client, job)["status"] == "cancelled"
        assert ended(client, second)["status"] == "done"
        assert _memory(running.process.pid) - before < 64
        for one in (*stalled, *halves):
            one.close()
        waiting = _socket(running, "POST /v1/images/generations HTTP/1.1", b'{"prompt": "a cat", "n": 16}')
        newest = lambda: client.get("/v1/jobs?limit=1").json()["jobs"][0]  # noqa: E731
        until(lambda: newest()["options"] == {"num_images": 16})
        waiting.close()
        assert ended(client, newest()["id"])["status"] == "cancelled", "nobody waits for it any more"


def test_an_idle_worker_that_is_killed_is_replaced(running: Process) -> None:
    with running.client() as client:
        until(lambda: client.get("/v1/status").json()["devices"][0]["state"] == "ready")
        (worker,) = running.workers()
        os.kill(worker, signal.SIGKILL)
        assert until(lambda: [pid for pid in running.workers() if pid != worker])


def _socket(running: Process, request: str, body: bytes = b"", receive: int = 0) -> socket.socket:
    host, port = running.url.removeprefix("http://").split(":")
    one = socket.create_connection((host, int(port)))
    head = f"{request}\r\nHost: {host}:{port}\r\nAuthorization: Bearer {running.token}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    one.sendall(head.encode() + b"\r\n" + body)
    one.recv(receive) if receive else None
    return one


def _memory(pid: int) -> float:
    """Resident memory in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize("taken", ["port", "folder"])
def test_two_servers(running: Process, tmp_path: Path, taken: str) -> None:
    port = running.url.rpartition(":")[2] if taken == "port" else "0"
    data = tmp_path / "data" if taken == "port" else running.data
    command = [sys.executable, "-m", "cloisonne", "studio", "--no-browser", "--port", port, "--data", str(data)]
    second = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert second.returncode == 2
    assert ("Nothing can listen" if taken == "port" else "Another server uses") in second.stderr
    assert "Traceback" not in second.stderr
    assert second.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "--token-file"),
        (["--model", "no/such/model/here"], "There is no folder or file"),
        (["--model", "builtin", "--model", "builtin"], "Two models are called"),
        (["--device", "gpu"], "cannot be used"),
        (["--token-file", "none"], "cannot be read"),
    ],
)
def test_what_the_command_refuses(workdir: Path, arguments: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "cloisonne", "studio", "--no-browser", "--data", "data", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert run.returncode == 2
    assert sentence in run.stderr
    assert not (workdir / "data").exists()


def test_load(running: Process) -> None:
    """The short form of benchmarks/studio_load.py."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from studio_load import load

    report = asyncio.run(load(running.url, running.token, 10, 30, [running.process.pid]))
    assert report["statuses"] == {"done": 30}
    assert (report["lost"], report["doubled"]) == ([], [])
    assert report["pictures_per_job"] == {1: 30}
    assert report["probe"]["requests"] > 0
    assert report["memory_mib"]["largest"][0] - report["memory_mib"]["at first"][0] < 64
