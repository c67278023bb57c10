"""Asynchronous tests run on asyncio. ``client`` has no device, so its jobs wait; it starts in no time."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from studio_client import Process, served, server, settings_in

from studio_page import Studio, browser, forget_document, new_page

# Whatever sends a file imports it late, in a thread, and pytest rewrites it: Python 3.11 cannot parse in two threads.
anyio.open_file  # noqa: B018


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_in(tmp_path / "data")) as client:
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
