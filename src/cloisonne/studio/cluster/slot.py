"""A server's side of a model on the cluster: a slot draws one group of jobs at a time on whatever replica is free."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from cloisonne.pipelines.batches.frames import Frame
from cloisonne.studio.cluster.replica import carried
from cloisonne.studio.device import ENDS, State, WorkerEnded
from cloisonne.studio.refusals import Refusal


class Handle(Protocol):
    """A handle of Ray Serve to the replicas of a model."""

    ask: Any
    draw: Any

    def options(self, *, stream: bool) -> "Handle":
        """The handle with other options."""
        ...


class ModelSlot:
    """A :class:`~cloisonne.studio.device.Drawer` on a cluster.

    Args:
        model: its name.
        kind: of the replicas' device, such as "cpu" or "cuda".
        handle: to the replicas.
    """

    def __init__(self, model: str, kind: str, handle: Handle) -> None:
        self.name = f"ray: {model}"
        self.kind = kind
        self.model: str | None = model
        self.state: State = "down"
        self._handle = handle
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()

    async def open(self) -> None:
        """A slot is always ready: what is sent waits for a replica."""
        self.state = "ready"

    async def close(self) -> None:
        """The end of a slot's generator stops its jobs."""
        self.state = "down"

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Ask a question and wait for its answer. Raises Refusal or WorkerEnded."""
        sent = await asyncio.to_thread(carried, message)
        try:
            answer = await self._handle.ask.remote(sent)
        except Exception as error:  # what Ray raises where a replica or a machine ends
            raise WorkerEnded(_reason(error)) from None
        if "ended" in answer:
            raise WorkerEnded(answer["ended"])
        if "refused" in answer:
            raise Refusal(422, answer["refused"].pop("message"), **answer["refused"])
        return answer["answer"]

    async def draw(self, jobs: Sequence[Mapping[str, Any]]) -> AsyncIterator[Frame]:
        """Draw jobs together; gives their messages, each job's to done, failed or cancelled. Raises WorkerEnded."""
        self.state = "drawing"
        self._frames = asyncio.Queue()
        remaining = {job["job"] for job in jobs}
        sent = [await asyncio.to_thread(carried, job) for job in jobs]
        for job in remaining:
            yield {"event": "progress", "job": job, "stage": "waiting"}, b""
        stream = self._handle.options(stream=True).draw.remote(sent)
        reading = asyncio.create_task(self._read(stream))
        try:
            while remaining and (frame := await self._frames.get()) is not None:
                if frame[0]["event"] == "ended":
                    raise WorkerEnded(frame[0]["reason"])
                if frame[0]["job"] not in remaining:
                    continue
                if frame[0]["event"] in ENDS:
                    remaining.discard(frame[0]["job"])
                yield frame
            if remaining:
                raise WorkerEnded("The replica ended")
        finally:
            if not reading.done():
                stream.cancel()
                reading.cancel()
            if self.state == "drawing":
                self.state = "ready"

    async def _read(self, stream: Any) -> None:
        try:
            async for frame in stream:
                await self._frames.put(frame)
            await self._frames.put(None)
        except Exception as error:  # what Ray raises where a replica or a machine ends
            await self._frames.put(({"event": "ended", "reason": _reason(error)}, b""))

    async def cancel(self, job: str) -> None:
        """End a job at once. Its replica stops when all jobs that it draws together have ended."""
        await self._frames.put(({"event": "cancelled", "job": job}, b""))


def _reason(error: Exception) -> str:
    return f"The replica ended ({type(error).__name__})"
