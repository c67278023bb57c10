"""Clients of a studio: in this process through ASGI, and of a server process of its own."""

import asyncio
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.routing import APIRoute
from PIL import Image

from cloisonne.studio.app import create_app
from cloisonne.studio.routes.answers import Error
from cloisonne.studio.settings import Limits, Settings, models_of
from cloisonne.studio.studio import Studio

TOKEN = "a token that only tests know"
BASE = "http://127.0.0.1:7788"
BEARER = {"authorization": f"Bearer {TOKEN}"}
SCENE: dict[str, Any] = {
    "caption": "on a beach",
    "seed": 5,
    "steps": 2,
    "width": 64,
    "height": 64,
    "regions": [{"name": "donut", "box": [0.05, 0.05, 0.45, 0.45], "phrase": "a doughnut"}],
}

_RAY = (pytest.mark.slow, pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"))
WHERE = (pytest.param(None, id="here"), pytest.param("ray", marks=_RAY, id="ray"))
"""Parameters of a fixture: a server in this process, and one on Ray."""
HERE = pytest.mark.parametrize("cluster", [pytest.param(None, id="here")], indirect=True)
"""For tests that look into the server's process."""


def settings_in(folder: Path, *, devices: tuple[str, ...] = (), limits: Limits | None = None, **more: Any) -> Settings:
    """Settings with a known token. Without devices every job waits."""
    models = more.pop("models", models_of(["builtin"]))
    return Settings(data=folder, models=models, devices=devices, token=TOKEN, limits=limits or Limits(), **more)


@asynccontextmanager
async def served(settings: Settings, studio: Callable[[Settings], Studio] = Studio) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the token of a server in this process; ``client.gate`` is the application."""
    gate = create_app(settings, studio)
    api: Any = gate.app
    async with api.router.lifespan_context(api):
        transport = httpx.ASGITransport(gate, client=("127.0.0.1", 50000))  # type: ignore[arg-type]
        hooks = {"response": [is_as_described(api)]}
        async with httpx.AsyncClient(
            transport=transport, base_url=BASE, headers=BEARER, timeout=120, event_hooks=hooks
        ) as client:
            client.data = settings.data  # type: ignore[attr-defined]
            client.gate = gate  # type: ignore[attr-defined]
            client.studio = api.state.studio  # type: ignore[attr-defined]
            yield client


@asynccontextmanager
async def reached(process: "Process") -> AsyncIterator[httpx.AsyncClient]:
    """A client with the token of a server process, from which everything is deleted."""
    async with httpx.AsyncClient(base_url=process.url, headers=BEARER, timeout=120) as client:
        client.data = process.data  # type: ignore[attr-defined]
        for job in (await client.get("/v1/jobs?limit=200")).json()["jobs"]:
            await client.delete(f"/v1/jobs/{job['id']}")
            await finished(client, job["id"])
            await client.delete(f"/v1/jobs/{job['id']}/record")
        for picture in (process.data / "pictures").rglob("*.png"):
            await client.delete(f"/v1/pictures/{picture.stem}")
        yield client


def is_as_described(api: Any) -> Callable[[httpx.Response], Any]:
    """A hook of a client that compares each answer in JSON with what its route says that it answers."""
    routes = [route for route in api.routes if isinstance(route, APIRoute)]

    async def check(answer: httpx.Response) -> None:
        if answer.headers.get("content-type") != "application/json" or answer.request.method == "HEAD":
            return
        await answer.aread()
        method, path = answer.request.method, answer.request.url.path
        route = next((one for one in routes if method in one.methods and one.path_regex.match(path)), None)
        if answer.status_code >= 400:
            Error.model_validate(answer.json(), strict=True)
        elif route is not None and answer.status_code in route.responses:
            route.responses[answer.status_code]["model"].model_validate_json(answer.content, strict=True)

    return check


def png(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """An encoded picture."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(width: int = 64, height: int = 64, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Noise."""
    shape = (height, width, len(mode)) if len(mode) > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, np.uint8), mode)


async def upload(client: httpx.AsyncClient, data: bytes) -> httpx.Response:
    return await client.post("/v1/pictures", files={"file": ("../../etc/passwd.svg", data, "image/svg+xml")})


async def finished(client: httpx.AsyncClient, job: str, seconds: float = 240) -> dict[str, Any]:
    """A job after its end."""
    for _ in range(int(seconds * 20)):
        answer = (await client.get(f"/v1/jobs/{job}")).json()
        if answer["status"] not in ("queued", "running"):
            return answer
        await asyncio.sleep(0.05)
    raise AssertionError(f"the job did not end: {answer}")


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Server-sent events as (name, data)."""
    return [(name, json.loads(data)) for name, data in re.findall(r"event: (\w+)\ndata: (.*)\n", text)]


@dataclass(frozen=True)
class Process:
    """A server process, its data folder, its address and its token."""

    data: Path
    process: subprocess.Popen[str]
    url: str
    token: str

    def client(self, name: str = "") -> httpx.Client:
        headers = {"authorization": f"Bearer {self.token}"} | ({"cloisonne-client": name} if name else {})
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)

    def workers(self) -> list[int]:
        """Ids of its worker processes."""
        listed = subprocess.run(
            ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)], capture_output=True, text=True
        )
        return [int(line.split()[0]) for line in listed.stdout.splitlines() if "cloisonne.studio.worker" in line]


@contextmanager
def server(folder: Path, *arguments: str, prefix: tuple[str, ...] = ()) -> Iterator[Process]:
    """``cloisonne studio`` as a process of its own, killed at the end."""
    with _started(folder, [*prefix, *_command("studio", folder), "--no-browser", *arguments]) as found:
        try:
            yield found
        finally:
            found.process.kill()


@contextmanager
def serving(folder: Path, *arguments: str, ray: str = "local", prefix: tuple[str, ...] = ()) -> Iterator[Process]:
    """``cloisonne serve`` with the token of the tests, as a process of its own, ended at the end. ray: the cluster."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    (folder.parent / "token").write_text(TOKEN)
    token = ("--token-file", str(folder.parent / "token"))
    with _started(folder, [*prefix, *_command("serve", folder), "--ray", ray, *token, *arguments]) as found:
        try:
            yield found
        finally:
            found.process.terminate()


def _command(verb: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "cloisonne", verb, "--port", "0", "--data", str(folder)]


@contextmanager
def _started(folder: Path, command: list[str]) -> Iterator[Process]:
    """A server process once it has printed its address. Whoever leaves the context has ended it."""
    with open(folder.parent / "server.log", "a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment())
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"(http://[^/]+)/#token=(.+)\n", line)
        if not found:
            process.kill()
        assert found, (line, (folder.parent / "server.log").read_text())
        yield Process(folder, process, found[1], found[2])
    finally:
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def environment() -> dict[str, str]:
    """The environment of a server: this interpreter's source, one thread."""
    import cloisonne

    source = str(Path(cloisonne.__file__).parents[1])
    return os.environ | {
        "PYTHONPATH": source,
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
    }


def until(condition: Any, seconds: float = 240) -> Any:
    """Wait for a condition, and return its value."""
    for _ in range(int(seconds * 20)):
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("the condition did not come true")
