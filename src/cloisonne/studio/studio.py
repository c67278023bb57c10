"""The studio: what the routes ask of a server."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

from cloisonne.scene.io.interchange.exporting import exported
from cloisonne.studio import intake
from cloisonne.studio.device import Drawer
from cloisonne.studio.dispatch import Dispatcher
from cloisonne.studio.ledger import Ledger, log
from cloisonne.studio.queue import QueueFull
from cloisonne.studio.refusals import Refusal, StorageFull, missing
from cloisonne.studio.scenes import references, scene_of
from cloisonne.studio.schema import ExplainRequest, ExportRequest, JobRequest
from cloisonne.studio.settings import Settings
from cloisonne.studio.storage.store import FINAL, Job, Store

P = ParamSpec("P")
T = TypeVar("T")

SAVE_AGAIN = 5.0
"""Seconds after which the end of a job that could not be stored is stored again."""
HOUR = 3600.0


class Studio:
    """Jobs, pictures and devices of one data folder. Use it as an asynchronous context.

    Attributes:
        ledger: the jobs.
        dispatcher: the devices.
        closing: whether the server stops.
        streams: open event streams, by client.
        decoding: bounds how many pictures are decoded at the same time.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger | None = None, devices: Sequence[Drawer] | None = None
    ) -> None:
        """ledger: None for one of this process alone. devices: None for those of the settings."""
        self.settings = settings
        self.ledger = ledger or Ledger(settings)
        self.dispatcher = Dispatcher(self.ledger, devices)
        self.closing = False
        self.streams: Counter[str] = Counter()
        self.decoding = asyncio.Semaphore(settings.limits.decoders)
        self._tidying: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Studio":
        self.ledger.stop = self.dispatcher.cancel
        await self.ledger.open()
        self.dispatcher.open()
        self._tidying = asyncio.create_task(self._tidy())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closing = True
        if self._tidying is not None:
            self._tidying.cancel()
            with suppress(asyncio.CancelledError):
                await self._tidying
        await self.dispatcher.close()
        await self.ledger.close()

    @property
    def store(self) -> Store:
        """The jobs and pictures on disk; its methods run in :meth:`db`."""
        return self.ledger.store

    async def db(self, call: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Call a method of the store in its thread."""
        return await self.ledger.db(call, *given, **named)

    async def submit(self, request: JobRequest, client: str) -> Job:
        """Accept a job. Raises Refusal, SceneError, ImageError or StorageFull."""
        with self._place(client):
            async with self.decoding:
                given = (request.verb, request.scene, request.arguments, request.model)
                accepted = await asyncio.to_thread(intake.accept, *given, self.settings, self.store.files)
            for picture in accepted.pictures:
                await self.db(self.store.add_picture, picture)
            job = await self._added(client, request.verb, accepted.model, accepted.request(), accepted.inputs)
        log.info("job %s: %s accepted", job.id, job.verb)
        return job

    async def again(self, job: str, client: str) -> Job:
        """Accept a finished job once more, as a new one. Raises Refusal or StorageFull."""
        old = await self.job(job)
        if old.status not in FINAL:
            raise Refusal(409, f"The job {job} is {old.status}; wait for its end, or cancel it first.", kind="state")
        if old.model not in self.settings.models:
            raise Refusal(409, f'This server has no model "{old.model}" any more; send the job again.', kind="state")
        inputs = references(old.request["scene"])
        for picture in inputs:
            if not self.store.files.path(picture).is_file():
                raise missing("picture", picture)
        with self._place(client):
            return await self._added(client, old.verb, old.model, old.request, inputs, job)

    async def _added(
        self,
        client: str,
        verb: str,
        model: str,
        request: dict[str, Any],
        inputs: list[str],
        again_of: str | None = None,
    ) -> Job:
        job = await self.db(self.store.add_job, client, verb, model, request, inputs, again_of)
        self.ledger.enqueue(client, job)
        return job

    @contextmanager
    def _place(self, client: str) -> Iterator[None]:
        """Hold a place in the queue. Raises Refusal, with the time to retry at."""
        if self.closing:
            raise Refusal(503, "The server stops; try again later.", kind="stopping", headers={"retry-after": "5"})
        place = self.ledger.queue.place(client)
        try:
            place.__enter__()
        except QueueFull as error:
            headers = {"retry-after": str(self.dispatcher.retry_after())}
            raise Refusal(503, str(error), kind="busy", headers=headers) from None
        try:
            yield
        finally:
            place.__exit__(None, None, None)

    async def job(self, job: str) -> Job:
        """A job. Raises Refusal where there is none."""
        return await self.ledger.job(job)

    def position(self, job: str) -> int | None:
        """Number of jobs that are drawn before a waiting one."""
        return self.ledger.queue.position(job)

    async def cancel(self, job: str) -> Job:
        """Cancel a job: at once if it waits, before its next step if it runs. A finished job stays as it is."""
        if self.ledger.queue.remove(job):
            await self.ledger.end(job, "cancelled", None)
            self.ledger.announce()
        elif job in self.ledger.running:
            await self.dispatcher.cancel(job)
        else:
            await self.ledger.cancel_elsewhere(job)
        return await self.job(job)

    async def explain(self, asked: ExplainRequest) -> dict[str, Any]:
        """What becomes of each region of a scene. Raises Refusal, SceneError or ImageError."""
        async with self._unsent(asked.scene, asked.model) as accepted:
            files = self.store.files
            own = {one.id: {"path": str(files.path(one.id)), "sha256": one.sha256} for one in accepted.pictures}
            others = await self.ledger.inputs([one for one in accepted.inputs if one not in own])
            message = {"do": "explain", "scene": accepted.scene, "inputs": own | others}
            return await self.dispatcher.ask(message, accepted.model)

    async def exported(self, asked: ExportRequest) -> tuple[dict[str, Any], tuple[str, ...]]:
        """A scene in another format, and warnings. Raises SceneError or ImageError."""
        size = None if asked.size is None else (asked.size[0], asked.size[1])
        async with self._unsent(asked.scene, None) as accepted:
            return await asyncio.to_thread(
                lambda: exported(scene_of(accepted.scene, self.store.files.read), asked.format, size=size)
            )

    @asynccontextmanager
    async def _unsent(self, scene: dict[str, Any], model: str | None) -> AsyncIterator[intake.Accepted]:
        """A checked scene that becomes no job: its embedded pictures are stored until the context ends."""
        async with self.decoding:
            given = ("generate", scene, {}, model)
            accepted = await asyncio.to_thread(intake.accept, *given, self.settings, self.store.files)
        try:
            yield accepted
        finally:
            for picture in accepted.pictures:
                self.store.files.delete(picture.id)

    async def _tidy(self) -> None:
        """Store what could not be stored, and delete what is older than its retention."""
        expired = -HOUR
        while True:
            await self.ledger.save_again()
            days = self.settings.keep_days
            if days is not None and time.monotonic() - expired > HOUR:
                expired = time.monotonic()
                document, _ = await self.db(self.store.document)
                with suppress(StorageFull):
                    await self.db(self.store.expire, time.time() - days * 24 * HOUR, references(document))
            await asyncio.sleep(SAVE_AGAIN)
