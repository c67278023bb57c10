"""Asynchronous tests run on asyncio. ``client`` has no device, so its jobs wait; it starts in no time."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from _pytest.runner import runtestprotocol
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


def pytest_runtest_protocol(item: Any, nextitem: Any) -> bool | None:
    """Run a test of the page once more if it fails: a busy machine delays what the browser does."""
    if not item.nodeid.startswith("tests/studio/test_page.py"):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any(report.failed for report in reports):
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
