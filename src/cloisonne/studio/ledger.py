"""The state of all jobs: the store in its thread, the queue, and the channels of jobs that are not finished."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, ParamSpec, TypeVar

from cloisonne.studio.events import Channel
from cloisonne.studio.queue import FairQueue, batch_key
from cloisonne.studio.refusals import Refusal, StorageFull, missing
from cloisonne.studio.schema import job_json
from cloisonne.studio.security import Ended
from cloisonne.studio.settings import Settings
from cloisonne.studio.storage.store import INTERRUPTED, Job, Picture, Status, Store

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("cloisonne.studio")
"""At INFO: ids, verbs, times and outcomes; never a text or a picture of a request."""


class Ledger:
    """Jobs and pictures of one data folder.

    Attributes:
        store: what is on disk.
        queue: the waiting jobs.
        channels: by job, while it is not finished.
        running: the jobs that this server has taken from the queue, each with its device.
        stop: stops a running job before its next step.
    """

    store: Store
    stop: Callable[[str], Awaitable[None]]
    store_type: type[Store] = Store

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.queue = FairQueue(settings.limits.queued, settings.limits.queued_per_client)
        self.channels: dict[str, Channel] = {}
        self.running: dict[str, Any] = {}
        self.arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "store")
        self._unsaved: dict[str, Job] = {}

    async def open(self) -> None:
        """Open the store, and queue the jobs that waited when it was closed. Raises OutputError."""
        try:
            self.store = await asyncio.get_running_loop().run_in_executor(
                self._thread, self.store_type, self.settings.data
            )
        except BaseException:
            self._thread.shutdown()
            raise
        for client, job in await self.db(self.store.recover):
            self.enqueue(client, await self.db(self.store.job, job))

    async def close(self) -> None:
        """Wake all readers, and close the store."""
        for channel in self.channels.values():
            channel.close()
        await self.db(self.store.close)
        self._thread.shutdown()

    async def db(self, call: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Call a method of the store in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(call, *given, **named))

    def enqueue(self, client: str, job: Job, *, first: bool = False) -> None:
        """Queue a stored job, before the others of its client if it is the first."""
        self.queue.add(client, job.id, batch_key(job), job.model, first=first)
        channel = self.channels.setdefault(job.id, Channel(id=job.id))
        channel.publish(status="queued", position=self.queue.position(job.id))
        self.arrived.set()

    async def publish(self, job: str, channel: Channel, fields: dict[str, Any], preview: bytes) -> None:
        """Publish what a device reports about a job. preview: WebP, or nothing."""
        channel.preview = preview or channel.preview
        channel.publish(**fields)

    async def channel(self, job: str) -> Channel | None:
        """The channel of a job that is not finished."""
        return self.channels.get(job)

    async def preview(self, job: str) -> bytes | None:
        """The newest preview of a running job as WebP, if there is one."""
        channel = self.channels.get(job)
        return None if channel is None else channel.preview

    async def job(self, job: str) -> Job:
        """A job. Raises Refusal where there is none."""
        if job in self._unsaved:
            return self._unsaved[job]
        try:
            return await self.db(self.store.job, job)
        except KeyError:
            raise missing("job", job) from None

    async def jobs(self, limit: int, before: int | None) -> list[Job]:
        """The newest jobs, those with a smaller number than ``before``."""
        return [self._unsaved.get(job.id, job) for job in await self.db(self.store.jobs, limit, before)]

    def ended_sessions(self) -> Ended:
        """Sessions of browsers that have ended, of all servers of the folder."""
        return set()

    async def inputs(self, pictures: list[str]) -> dict[str, dict[str, str]]:
        """Paths and hashes of pictures, for a worker. Raises Refusal where one was deleted."""
        found = {}
        for picture in pictures:
            try:
                row = await self.db(self.store.picture, picture)
            except KeyError:
                raise missing("picture", picture) from None
            found[picture] = {"path": str(self.store.files.path(picture)), "sha256": row.sha256}
        return found

    async def complete(self, job: str, report: dict[str, Any], pictures: list[Picture]) -> None:
        """Store that a job is done. Raises StorageFull."""
        await self.db(self.store.complete, job, report, pictures)
        await self._finished(job)

    async def end(self, job: str, status: Status, error: dict[str, Any] | None) -> None:
        """Store that a job failed or was cancelled; what cannot be stored now is kept and stored later."""
        try:
            await self.db(self.store.fail, job, status, error)
        except StorageFull:
            record = await self.db(self.store.job, job)
            self._unsaved[job] = replace(record, status=status, error=error, finished=time.time())
        await self._finished(job)

    async def interrupt(self, job: str, message: str | None = None) -> None:
        """Store that a running job cannot go on, because the process that drew it ended."""
        await self.end(job, "failed", INTERRUPTED if message is None else {**INTERRUPTED, "message": message})

    async def cancel_elsewhere(self, job: str) -> None:
        """Cancel a job that another server draws. There is no other one."""

    async def _finished(self, job: str) -> None:
        record = await self.job(job)
        log.info("job %s: %s", job, record.status)
        if (channel := self.channels.pop(job, None)) is not None:
            channel.finish(record.status, job_json(record))

    async def delete_unless_stored(self, pictures: list[Picture]) -> None:
        """Delete the files of pictures that have no row, because their job failed."""
        for picture in pictures:
            try:
                await self.db(self.store.picture, picture.id)
            except KeyError:
                self.store.files.delete(picture.id)

    def announce(self) -> None:
        """Publish the places of waiting jobs, to those who read them."""
        for job in self.queue.waiting():
            if self.channels[job].readers:
                self.channels[job].publish(position=self.queue.position(job))

    async def save_again(self) -> None:
        """Store the ends of jobs that could not be stored."""
        for job, record in list(self._unsaved.items()):
            with suppress(StorageFull, Refusal):
                await self.db(self.store.fail, job, record.status, record.error)
                del self._unsaved[job]
