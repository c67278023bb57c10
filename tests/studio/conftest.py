"""Asynchronous tests run on asyncio. ``client`` reaches a server without a device, whose jobs wait, or one on Ray."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from studio_client import WHERE, Process, reached, served, server, serving, settings_in

from studio_page import Studio, browser, forget_document, new_page

# Whatever sends a file imports it late, in a thread, and pytest rewrites it: Python 3.11 cannot parse in two threads.
anyio.open_file  # noqa: B018


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", params=WHERE)
def cluster(request: pytest.FixtureRequest) -> Process | None:
    """``cloisonne serve --ray`` where tests run on Ray; None for a server in this process."""
    return request.getfixturevalue("ray_server") if request.param else None


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_sd: Path) -> tuple[str, ...]:
    """Models of a server: the built-in one, a tiny one, and this with two LoRAs."""
    from lora_files import lora_weights, peft_file  # which import torch

    folder = tmp_path_factory.mktemp("loras")
    loras = {
        name: str(peft_file(folder / f"{name}.safetensors", lora_weights(tiny_sd, seed, text=False)))
        for seed, name in enumerate(("ink", "oil"))
    }
    (folder / "inked.json").write_text(json.dumps({"source": str(tiny_sd), "regional_lora": loras}))
    return "builtin", f"tiny={tiny_sd}", str(folder / "inked.json")


@pytest.fixture(scope="session")
def ray_server(tmp_path_factory: pytest.TempPathFactory, models: tuple[str, ...]) -> Iterator[Process]:
    """Two servers, and a replica of each model."""
    given = [word for model in models for word in ("--model", model)]
    with serving(tmp_path_factory.mktemp("ray") / "data", "--servers", "2", *given) as found:
        yield found


@pytest.fixture
async def client(tmp_path: Path, cluster: Process | None) -> AsyncIterator[httpx.AsyncClient]:
    async with reached(cluster) if cluster else served(settings_in(tmp_path / "data")) as client:
        yield client


@pytest.fixture(scope="module")
def server_arguments() -> tuple[str, ...]:
    """Arguments of ``cloisonne studio`` for the tests of the page in a module."""
    return ()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory, server_arguments: tuple[str, ...]) -> Iterator[Process]:
    with server(tmp_path_factory.mktemp("page") / "data", *server_arguments) as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture
def studio(chromium: Any, process: Process) -> Iterator[Studio]:
    """A page of a browser that has never been here."""
    forget_document(process)
    with process.client() as client:
        for job in client.get("/v1/jobs").json()["jobs"]:
            client.delete(f"/v1/jobs/{job['id']}/record")
    found = new_page(chromium, process)
    yield found
    found.page.context.close()
    assert found.faults == []
