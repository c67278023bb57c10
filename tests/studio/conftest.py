"""Asynchronous tests run on asyncio. ``client`` has no device, so its jobs wait; it starts in no time."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest
from studio_client import served, settings_in

# Whatever sends a file imports it late, in a thread, and pytest rewrites it: Python 3.11 cannot parse in two threads.
anyio.open_file  # noqa: B018


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_in(tmp_path / "data")) as client:
        yield client
