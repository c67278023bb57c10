"""Hands jobs to devices, one after the other or several together, and restarts their worker processes."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cloisonne.studio.attempt import Attempt
from cloisonne.studio.device import Device, Drawer, WorkerEnded
from cloisonne.studio.ledger import Ledger, log
from cloisonne.studio.refusals import Refusal, StorageFull
from cloisonne.studio.scenes import references

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

    def __init__(self, ledger: Ledger, devices: Sequence[Drawer] | None = None) -> None:
        """devices: None for a worker process for each device of the settings."""
        self._ledger = ledger
        self._specs = ledger.settings.models
        own = [Device(name) for name in ledger.settings.devices]
        self.devices: Sequence[Drawer] = own if devices is None else devices
        self.models: dict[str, dict[str, Any]] = {}
        self._running: dict[str, Drawer] = ledger.running
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
            await self._ledger.interrupt(job)

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

    async def describe(self, name: str, device: Drawer | None = None) -> dict[str, Any]:
        """What a model can do; it is loaded for that. Raises Refusal."""
        if name not in self.models:
            self.models[name] = await self.ask({"do": "load"}, name, device)
        return self.models[name]

    async def ask(self, message: dict[str, Any], model: str, device: Drawer | None = None) -> dict[str, Any]:
        """Ask a worker process about a model or a scene. Raises Refusal."""
        ready = [one for one in self.devices if one.state in ("ready", "drawing") and one.model in (None, model)]
        if device is None and not ready:
            raise Refusal(503, "The worker process is starting; try again.", kind="starting", headers=STARTING)
        try:
            return await (device or ready[0]).ask({**message, "model": model, "spec": self._specs[model].to_dict()})
        except WorkerEnded as error:
            raise Refusal(503, f"{error}; try again.", kind="starting", headers=STARTING) from None

    async def _serve(self, device: Drawer) -> None:
        """Draw on one device, for ever."""
        queue, arrived = self._ledger.queue, self._ledger.arrived
        most = self._ledger.settings.batch_on(device.kind)
        while True:
            await self._opened(device)
            jobs = queue.take_together(most, device.model)
            if not jobs:
                arrived.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(arrived.wait(), NOTICE)
            elif taken := [Attempt(self._ledger, job) for job in jobs]:
                self._running.update(dict.fromkeys(jobs, device))
                self._ledger.announce()
                try:
                    await self._draw(device, taken)
                except Exception:
                    log.exception("jobs %s", " ".join(one.job for one in taken))
                    await device.close()  # what it still sends about these jobs is lost
                    for one in taken:
                        await one.fail("failed", "The server failed; its log has the reason.")
                finally:
                    for one in taken:
                        del self._running[one.job]

    async def _opened(self, device: Drawer) -> None:
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

    async def _load(self, device: Drawer) -> None:
        name = device.model or next(iter(self._specs))
        with suppress(Refusal):
            self.models[name] = await self.ask({"do": "load"}, name, device)

    async def _draw(self, device: Drawer, taken: list[Attempt]) -> None:
        """Draw jobs together, to the end of each."""
        began = time.perf_counter()
        attempts = {one.job: one for one in taken}
        try:
            asked = [found for one in taken if (found := await self._message(device, one)) is not None]
            if asked:
                async for frame, data in device.draw(asked):
                    await attempts[frame["job"]].take(frame, data)
        except WorkerEnded as error:
            for one in taken:
                await one.interrupt(f"{error} in this job; run it again.")
        finally:
            for one in taken:
                await self._ledger.delete_unless_stored(one.pictures)
        self._seconds.append((time.perf_counter() - began) / len(taken))

    async def _message(self, device: Drawer, one: Attempt) -> dict[str, Any] | None:
        """What the worker needs of a job, which is running from now on; None if it has ended."""
        ledger = self._ledger
        try:
            if not await ledger.db(ledger.store.start, one.job, device.name):
                return None
            record = await ledger.db(ledger.store.job, one.job)
            if record.model not in self._specs:
                raise Refusal(409, f'This server has no model "{record.model}" any more.', kind="model")
            inputs = await ledger.inputs(references(record.request["scene"]))
        except (Refusal, StorageFull) as error:
            await one.fail(error.kind if isinstance(error, Refusal) else "storage", str(error))
            return None
        one.channel.publish(status="running", position=0, verb=record.verb)
        spec = self._specs[record.model].to_dict()
        message = {"job": one.job, "verb": record.verb, "model": record.model, "inputs": inputs, "spec": spec}
        return message | record.request
