"""Hands jobs to devices, one after the other, and watches what their worker processes send."""

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Any

from cloisonne.studio import intake
from cloisonne.studio.device import Device, WorkerEnded
from cloisonne.studio.ledger import Ledger, log
from cloisonne.studio.refusals import Refusal, StorageFull
from cloisonne.studio.scenes import references
from cloisonne.studio.storage.store import INTERRUPTED, Picture

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 60.0
"""Seconds between two starts of a process that ends at once."""
NOTICE = 1.0
"""Seconds after which the end of an idle process is noticed."""
STARTING = {"retry-after": "2"}


class Dispatcher:
    """The devices of a server.

    Attributes:
        devices: each has one worker process.
        models: what is known of models that were loaded, by name.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._specs = ledger.settings.models
        self.devices = [Device(name) for name in ledger.settings.devices]
        self.models: dict[str, dict[str, Any]] = {}
        self._running: dict[str, Device] = {}
        self._seconds: deque[float] = deque([5.0], maxlen=20)
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin to draw."""
        for device in self.devices:
            self._begin(self._serve(device))

    async def close(self) -> None:
        """End all processes; jobs that run are marked as interrupted."""
        interrupted = list(self._running)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for device in self.devices:
            await device.close()
        for job in interrupted:
            await self._ledger.end(job, "failed", INTERRUPTED)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def retry_after(self) -> int:
        """Seconds after which a place in the queue may be free: until a sixteenth of it is drawn."""
        mean = sum(self._seconds) / len(self._seconds)
        jobs = max(len(self._ledger.queue) / 16, 1)
        return min(max(round(jobs * mean / max(len(self.devices), 1)), 1), 300)

    async def cancel(self, job: str) -> None:
        """Ask the device that draws a job to stop before its next step."""
        if (device := self._running.get(job)) is not None:
            with suppress(WorkerEnded):
                await device.cancel(job)

    async def describe(self, name: str, device: Device | None = None) -> dict[str, Any]:
        """What a model can do; it is loaded for that. Raises Refusal."""
        if name not in self.models:
            self.models[name] = await self.ask({"do": "load"}, name, device)
        return self.models[name]

    async def ask(self, message: dict[str, Any], model: str, device: Device | None = None) -> dict[str, Any]:
        """Ask a worker process about a model or a scene. Raises Refusal."""
        ready = [one for one in self.devices if one.state in ("ready", "drawing")]
        if device is None and not ready:
            raise Refusal(503, "The worker process is starting; try again.", kind="starting", headers=STARTING)
        try:
            return await (device or ready[0]).ask({**message, "model": model, "spec": self._specs[model]})
        except WorkerEnded as error:
            raise Refusal(503, f"{error}; try again.", kind="starting", headers=STARTING) from None

    async def _serve(self, device: Device) -> None:
        """Draw on one device, for ever."""
        queue, arrived = self._ledger.queue, self._ledger.arrived
        while True:
            await self._opened(device)
            if not len(queue):
                arrived.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(arrived.wait(), NOTICE)
            elif (job := queue.take()) is not None:
                self._running[job] = device
                self._ledger.announce()
                try:
                    await self._draw(device, job)
                except Exception:
                    log.exception("job %s", job)
                    await device.close()  # what it still sends about this job is lost
                    text = "The server failed; its log has the reason."
                    await self._ledger.end(job, "failed", _error("failed", text))
                finally:
                    del self._running[job]

    async def _opened(self, device: Device) -> None:
        """Start the process of a device, again and again, if it has none; it loads the first model at once."""
        pause = FIRST_PAUSE
        while device.state != "ready":
            try:
                await device.open()
                self._begin(self._load(device))
            except WorkerEnded as error:
                log.error("%s; it is started again.", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _load(self, device: Device) -> None:
        name = next(iter(self._specs))
        with suppress(Refusal):
            self.models[name] = await self.ask({"do": "load"}, name, device)

    async def _draw(self, device: Device, job: str) -> None:
        began, ledger = time.perf_counter(), self._ledger
        pictures: list[Picture] = []
        try:
            if not await ledger.db(ledger.store.start, job, device.name):
                return
            record = await ledger.db(ledger.store.job, job)
            if record.model not in self._specs:
                raise Refusal(409, f'This server has no model "{record.model}" any more.', kind="model")
            inputs = await ledger.inputs(references(record.request["scene"]))
            message = {"job": job, "verb": record.verb, "model": record.model, **record.request, "inputs": inputs}
            ledger.channels[job].publish(status="running", position=0, verb=record.verb)
            await self._watch(device, job, message | {"spec": self._specs[record.model]}, pictures)
        except WorkerEnded as error:
            await ledger.end(job, "failed", _error("interrupted", f"{error} in this job; run it again."))
        except (Refusal, StorageFull) as error:
            kind = error.kind if isinstance(error, Refusal) else "storage"
            await ledger.end(job, "failed", _error(kind, str(error)))
        finally:
            await ledger.delete_unless_stored(pictures)
        self._seconds.append(time.perf_counter() - began)

    async def _watch(self, device: Device, job: str, message: dict[str, Any], pictures: list[Picture]) -> None:
        """Publish what a worker sends about a job, to its end. All of it is read, whatever goes wrong here."""
        ledger, previews = self._ledger, 0
        channel = ledger.channels[job]
        trouble: StorageFull | None = None
        async for frame, data in device.draw(message):
            kind = frame.pop("event")
            if kind == "progress":
                if data:
                    channel.preview, previews = data, previews + 1
                    frame["preview"] = f"/v1/jobs/{job}/preview?n={previews}"
                channel.publish(**{name: value for name, value in frame.items() if name != "job"})
            elif kind == "picture" and trouble is None:
                try:
                    given = (data, ledger.store.files, frame["name"], job, len(pictures))
                    pictures.append(await asyncio.to_thread(intake.made, *given))
                except StorageFull as error:
                    trouble = error
            elif kind == "done" and trouble is None:
                await ledger.complete(job, frame["report"], pictures)
            elif kind in ("failed", "cancelled"):
                await ledger.end(job, kind, frame.get("error"))
        if trouble is not None:
            raise trouble


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"kind": kind, "message": message, "region": None}
