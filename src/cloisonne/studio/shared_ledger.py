"""The ledger of a server that shares its data folder with others: it follows what they do, by their common store.

Each server has the whole queue. It takes a job from its own copy and then claims it in the store, where one server
succeeds; the others find it gone.
"""

import asyncio
import sqlite3
import time
from contextlib import suppress
from typing import Any

from cloisonne.studio.events import Channel
from cloisonne.studio.ledger import Ledger, log
from cloisonne.studio.refusals import Refusal, StorageFull
from cloisonne.studio.schema import job_json
from cloisonne.studio.security import Ended
from cloisonne.studio.settings import Settings
from cloisonne.studio.storage.shared import EndedSessions, SharedStore, Unfinished
from cloisonne.studio.storage.store import FINAL, INTERRUPTED

POLL = 0.25
"""Seconds between two queries of what the other servers have done."""
ENDED = 2.0
"""Seconds between two queries of which of them have ended."""


class SharedLedger(Ledger):
    """Jobs and pictures of a data folder that several servers use."""

    store: SharedStore
    store_type = SharedStore

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._following: asyncio.Task[None] | None = None
        self._finished_here: set[str] = set()
        self._versions: dict[str, int] = {}
        self._sessions: EndedSessions | None = None

    async def open(self) -> None:
        """Open the store, and follow it. Raises OutputError."""
        await super().open()
        self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop following, wake all readers, and close the store."""
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following
        if self._sessions is not None:
            self._sessions.close()
        await super().close()

    def ended_sessions(self) -> Ended:
        """Sessions of browsers that have ended, of all servers of the folder."""
        self._sessions = EndedSessions(self.settings.data)
        return self._sessions

    async def _follow(self) -> None:
        checked = 0.0
        while True:
            await asyncio.sleep(POLL)
            try:
                if time.monotonic() - checked > ENDED:
                    checked = time.monotonic()
                    if count := await self.db(self.store.release_ended):
                        log.warning("%d jobs of a server that ended", count)
                await self.synchronise()
            except (StorageFull, sqlite3.Error) as error:
                log.error("The data folder cannot be read at the moment: %s", error)

    async def synchronise(self) -> None:
        """Bring the queue and the channels to the state of the store."""
        self._finished_here.clear()
        found = {one.id: one for one in await self.db(self.store.unfinished)}
        for job in self.queue.waiting():
            if job not in found or found[job].status != "queued":
                self.queue.pass_over(job)
        for one in found.values():
            await self._take_up(one)
        for job in [job for job in self.channels if job not in found]:
            await self._notice_end(job)
        await self._read_states([job for job in self.channels if job not in self.queue and job not in self.running])
        self.announce()

    async def _take_up(self, one: Unfinished) -> None:
        """Add a job of another server to the queue, or to the channels."""
        if one.id in self.running or one.id in self._finished_here or one.id in self.queue:
            return
        if one.status == "queued":
            with suppress(KeyError):  # it was erased meanwhile
                record = await self.db(self.store.job, one.id)
                if record.status == "queued" and one.id not in self.running and one.id not in self.queue:
                    self.enqueue(one.client, record, first=one.attempts > 0)
        elif one.id not in self.channels:
            self.channels[one.id] = Channel(id=one.id, status="running", position=0)

    async def _notice_end(self, job: str) -> None:
        """Finish the channel of a job that another server has ended; stop drawing it, if that is done here."""
        try:
            status = (await self.job(job)).status
        except Refusal:
            self.channels.pop(job).finish("cancelled", {"id": job, "status": "cancelled"})  # it was erased
            return
        if status not in FINAL:
            return
        if job not in self.running:
            await self._finished(job)
        else:
            await self.stop(job)

    async def _read_states(self, jobs: list[str]) -> None:
        """Publish the states of jobs that other servers draw."""
        for job, (version, state) in (await self.db(self.store.states, jobs)).items():
            channel = self.channels.get(job)
            if channel is not None and job not in self.running and self._versions.get(job) != version:
                self._versions[job] = version
                channel.publish(**state)

    async def publish(self, job: str, channel: Channel, fields: dict[str, Any], preview: bytes) -> None:
        """Publish what a device reports about a job, for the readers of the other servers first."""
        newest = preview or channel.preview
        state = channel.state | {"status": "running", "position": 0} | fields
        await self.db(self.store.save_state, job, time.time_ns(), state, newest)
        await super().publish(job, channel, fields, preview)

    async def channel(self, job: str) -> Channel | None:
        """The channel of a job that is not finished, though another server has just accepted it."""
        if job not in self.channels:
            await self.synchronise()
        return self.channels.get(job)

    async def preview(self, job: str) -> bytes | None:
        """The newest preview of a running job as WebP, of whatever server draws it."""
        return await super().preview(job) or await self.db(self.store.preview, job)

    async def interrupt(self, job: str, message: str | None = None) -> None:
        """Put a job back into the queue, because what drew it ended; too often, and it fails."""
        try:
            if await self.db(self.store.release, job):
                log.info("job %s: queued again", job)
                return
        except StorageFull:
            log.warning("job %s: cannot be queued again", job)
        await super().interrupt(job, message or INTERRUPTED["message"])

    async def cancel_elsewhere(self, job: str) -> None:
        """Cancel a job that another server draws; that one notices."""
        if (await self.job(job)).status not in FINAL:
            await self.end(job, "cancelled", None)

    async def _finished(self, job: str) -> None:
        record = await self.job(job)
        if record.status not in FINAL:
            return
        self._finished_here.add(job)
        self._versions.pop(job, None)
        self.queue.remove(job)
        log.info("job %s: %s", job, record.status)
        if (channel := self.channels.pop(job, None)) is not None:
            channel.finish(record.status, job_json(record))
        await self.db(self.store.forget_state, job)
