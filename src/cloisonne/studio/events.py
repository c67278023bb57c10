"""The state of a waiting or running job, for any number of readers.

A reader gets the newest state when it is ready for one; what it was too slow for is dropped. So a client that never
reads costs one state, and memory stays bounded.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

HEARTBEAT = 15.0
"""Seconds without a change after which a comment keeps the connection open."""


class Channel:
    """The newest state of one job.

    Attributes:
        state: fields of the newest event.
        version: counts the changes.
        preview: WebP of the newest preview, or None.
        final: name of the last event; None while the job is not finished.
        readers: number of open streams.
    """

    def __init__(self, **state: Any) -> None:
        self.state: dict[str, Any] = state
        self.version = 0
        self.preview: bytes | None = None
        self.final: str | None = None
        self.readers = 0
        self._changed = asyncio.Event()

    def publish(self, **changes: Any) -> None:
        """Change fields of the state and wake the readers."""
        self.state = self.state | changes
        self._wake()

    def finish(self, event: str, state: dict[str, Any]) -> None:
        """Replace the state by the last one."""
        self.state, self.final, self.preview = state, event, None
        self._wake()

    def close(self) -> None:
        """Wake the readers, so that they notice the end of the server."""
        self._wake()

    def _wake(self) -> None:
        self.version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self, version: int, seconds: float) -> bool:
        """Wait for a change after ``version``; False if none came in time."""
        if self.version != version:
            return True
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return False
        return True


async def stream(channel: Channel, allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Server-sent events of a job until it is finished, or the client's permission ends."""
    version = -1
    channel.readers += 1
    try:
        while allowed():
            if version != channel.version:
                version, final = channel.version, channel.final
                yield event(final or "progress", channel.state, version)
                if final:
                    return
            if not await channel.wait(version, HEARTBEAT):
                yield KEEPALIVE_COMMENT
    finally:
        channel.readers -= 1


def event(name: str, data: dict[str, Any], number: int) -> bytes:
    """One server-sent event."""
    return format_sse_event(event=name, data_str=json.dumps(data), id=str(number))
