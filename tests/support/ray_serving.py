"""The server on a Ray cluster of this machine: ``ray_serving.py FOLDER`` prints JSON of what happened."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
from ray_batches import listening, stranger
from studio_client import BEARER, SCENE, TOKEN, events, settings_in, until

from cloisonne.errors import CapabilityError
from cloisonne.studio.cluster.serving import Serving

LONG = SCENE | {"steps": 150, "width": 128, "height": 128}


def submit(client: httpx.Client, scene: dict[str, Any], name: str = "a", **more: Any) -> str:
    headers = {"cloisonne-client": name}
    answer = client.post("/v1/jobs", json={"verb": "generate", "scene": scene, **more}, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def job_of(client: httpx.Client, job: str) -> dict[str, Any]:
    """A job; a server that is being replaced may hang up."""
    for _ in range(100):
        try:
            answer = client.get(f"/v1/jobs/{job}")
        except httpx.TransportError:
            time.sleep(0.2)
            continue
        if answer.status_code == 200:
            return answer.json()
        time.sleep(0.2)
    raise AssertionError("no server answers")


def finished(client: httpx.Client, job: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found = job_of(client, job)
        return found if found["status"] not in ("queued", "running") else None

    return until(ended)


def outcome(client: httpx.Client, jobs: list[str]) -> dict[str, Any]:
    """Statuses of jobs, and whether each has one picture, of its own seed."""
    found = [finished(client, job) for job in jobs]
    seeds = [one["report"]["scene"]["seed"] for one in found if one["report"]]
    return {
        "statuses": dict(Counter(one["status"] for one in found)),
        "errors": [one["error"] for one in found if one["error"]],
        "pictures": sorted({len(one["pictures"]) for one in found}),
        "seeds": len(set(seeds)),
    }


def processes(title: str) -> list[int]:
    """Processes of the cluster with this in their title."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if title.encode() in process.read_bytes():
                found.append(int(process.parent.name))
        except OSError:
            continue
    return found


def strangers(url: str) -> dict[str, Any]:
    """What requests without a token get: of the API, of the proxy, and of Ray's job API."""
    with httpx.Client(base_url=url, timeout=60) as client:
        body = {"verb": "generate", "scene": SCENE}
        found: dict[str, Any] = {
            "jobs": client.get("/v1/jobs").status_code,
            "submit": client.post("/v1/jobs", json=body).status_code,
            "wrong": client.get("/v1/jobs", headers={"authorization": "Bearer wrong"}).status_code,
            "ray": client.post("/api/jobs/", json={"entrypoint": "id"}).status_code,
            "host": client.get("/", headers={"host": "evil.example"}).status_code,
            "routes": client.get("/-/routes").text,
            "healthz": client.get("/-/healthz").text,
        }
    with socket.socket() as probe:
        found["dashboard"] = probe.connect_ex(("127.0.0.1", 8265))
    return found


def without_token(port: int, token: str = "") -> str:
    """What a port of a replica answers to a call of another program."""
    import grpc

    metadata = [("authorization", f"Bearer {token}")] if token else None
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary("/ray.serve.ASGIService/HandleRequest")(b"", timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name  # type: ignore[attr-defined]
    return "OK"


def cancelled(client: httpx.Client) -> dict[str, Any]:
    """A job that is cancelled while it is drawn, by requests that any server answers."""
    job = submit(client, LONG)
    until(lambda: client.get(f"/v1/jobs/{job}/preview").status_code == 200)
    began = time.perf_counter()
    client.delete(f"/v1/jobs/{job}").raise_for_status()
    status = finished(client, job)["status"]
    after = finished(client, submit(client, SCENE | {"seed": 77}))
    return {"status": status, "after": after["status"], "seconds": time.perf_counter() - began}


def killed(client: httpx.Client, title: str) -> dict[str, Any]:
    """Jobs during which one process is killed."""
    jobs = [submit(client, LONG | {"seed": 100 + index, "steps": 30}, name) for index, name in enumerate("aabb")]
    until(lambda: any(job_of(client, job)["status"] == "running" for job in jobs))
    victims = processes(title)
    os.kill(victims[0], signal.SIGKILL)
    return {"victims": len(victims)} | outcome(client, jobs)


def main() -> None:
    folder = Path(sys.argv[1])
    began, found = time.perf_counter(), dict[str, Any]()

    def note(name: str, value: Any) -> None:
        found[name] = value
        print(f"{time.perf_counter() - began:6.1f} s: {name}: {value}", file=sys.stderr, flush=True)

    serving = Serving(settings_in(folder / "data"), "local", 0, servers=2, least=1, most=1, threads=1)
    url = serving.settings.address.partition("/#")[0]
    note("started", url)
    assert serving.settings.token == TOKEN
    import ray

    client = httpx.Client(base_url=url, headers=BEARER, timeout=120)
    note("strangers", strangers(url))
    note("stranger", stranger(ray.get_runtime_context().gcs_address))
    doors = [port for address, port in listening() if not ip_address(address).is_loopback]
    note("doors", [without_token(port) for port in doors])
    note("with token", [without_token(port, os.environ["RAY_AUTH_TOKEN"]) for port in doors])
    scene = SCENE | {"steps": 60}
    job = submit(client, scene)
    read = events(client.get(f"/v1/jobs/{job}/events").text)
    note("events", [read[-1][0], sorted({data.get("stage") for _, data in read if data.get("stage")})])
    picture = finished(client, job)["pictures"][0]["id"]
    (folder / "served.png").write_bytes(client.get(f"/v1/pictures/{picture}").content)
    note("explain", client.post("/v1/explain", json={"scene": SCENE}).json().get("ok"))
    note("cancelled", cancelled(client))
    note("replica", killed(client, "ray::ServeReplica:cloisonne:model-0"))
    note("server", killed(client, "ray::ServeReplica:cloisonne:server"))
    jobs = [submit(client, LONG | {"seed": index, "steps": 20}, name) for index, name in enumerate("abcabc")]
    serving.restart()
    note("restarted", outcome(client, jobs))
    try:
        Serving(settings_in(folder / "other"), "local", 0)
    except CapabilityError as error:
        note("second", str(error))
    note("listed", len(client.get("/v1/jobs?limit=200").json()["jobs"]))
    serving.close()
    ray.shutdown()
    (folder / "scene.json").write_text(json.dumps(scene))
    command = [sys.executable, "-m", "cloisonne", "generate", str(folder / "scene.json"), "-o", str(folder / "own.png")]
    subprocess.run(command, check=True, capture_output=True)
    found["same"] = _pixels(folder / "served.png") == _pixels(folder / "own.png")
    print(json.dumps(found))


def _pixels(path: Path) -> bytes:
    from PIL import Image

    with Image.open(path) as image:
        return image.tobytes()


if __name__ == "__main__":
    main()
