"""A reader gets the newest state, a slow one costs no memory, and every one gets the end."""

import asyncio
from typing import Any

import pytest
from studio_client import events

from cloisonne.studio.events import Channel, stream

pytestmark = pytest.mark.anyio


async def read(channel: Channel, pause: float = 0.0) -> list[tuple[str, dict[str, Any]]]:
    text = b""
    async for part in stream(channel, lambda: True):
        text += part
        await asyncio.sleep(pause)
    return events(text.decode())


async def test_readers_see_the_end_however_slow_they_are() -> None:
    channel = Channel(status="queued")
    readers = [asyncio.create_task(read(channel, pause)) for pause in (0.0, 0.01, 0.2)]
    for step in range(50):
        channel.publish(step=step)
        await asyncio.sleep(0.002)
    channel.finish("done", {"status": "done"})
    fast, slow, slowest = [await reader for reader in readers]
    for seen in (fast, slow, slowest):
        steps = [data["step"] for name, data in seen if name == "progress" and "step" in data]
        assert steps == sorted(set(steps))
        assert seen[-1] == ("done", {"status": "done"})
    assert len(fast) > len(slowest)
    assert channel.readers == 0


async def test_a_reader_that_never_reads_costs_one_state() -> None:
    channel = Channel(status="queued")
    stalled = stream(channel, lambda: True)
    await anext(stalled)
    for step in range(10_000):
        channel.publish(step=step)
    assert channel.state == {"status": "queued", "step": 9_999}
    assert b'"step": 9999' in await anext(stalled)
    await stalled.aclose()
    assert channel.readers == 0


async def test_a_reader_whose_permission_ends_gets_no_more() -> None:
    channel, allowed = Channel(status="queued"), True
    reader = stream(channel, lambda: allowed)
    await anext(reader)
    allowed = False
    channel.publish(step=1)
    with pytest.raises(StopAsyncIteration):
        await anext(reader)
