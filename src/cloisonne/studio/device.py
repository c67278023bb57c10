"""The server's side of a worker process: it starts one, sends jobs and questions, and notices its end."""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

from cloisonne.pipelines.batches.frames import BrokenFrame, Frame, packed, receive_frame
from cloisonne.studio.refusals import Refusal

State = Literal["starting", "ready", "drawing", "down"]
STREAM_LIMIT = 2**20
"""Bytes that are read ahead of a worker's output."""
ENDS = ("done", "failed", "cancelled")
"""Events that end a job."""
FRAMES = 4
"""Messages that wait for a slow server before the worker does."""


class WorkerEnded(Exception):
    """The worker process ended: killed, out of memory, or crashed."""


class Drawer(Protocol):
    """What draws jobs, one group after the other.

    Attributes:
        name: written to its jobs.
        kind: such as "cpu" or "cuda:0".
        model: name of the only model that it has; None where it has all.
        state: what it does.
    """

    name: str
    kind: str
    model: str | None
    state: State

    async def open(self) -> None:
        """Make it ready. Raises WorkerEnded."""
        ...

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Ask a question and wait for its answer. Raises Refusal or WorkerEnded."""
        ...

    def draw(self, jobs: Sequence[Mapping[str, Any]]) -> AsyncIterator[Frame]:
        """Draw jobs together; gives their messages, each job's to done, failed or cancelled. Raises WorkerEnded."""
        ...

    async def cancel(self, job: str) -> None:
        """Stop a job before its next step. Raises WorkerEnded."""
        ...

    async def close(self) -> None:
        """End it."""
        ...


class Device:
    """One device and its worker process: a :class:`Drawer`.

    Attributes:
        name: such as "cpu" or "cuda:0".
        state: what the process does.
    """

    def __init__(self, name: str) -> None:
        self.name = self.kind = name
        self.model: str | None = None
        self.state: State = "down"
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue(FRAMES)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._calls = itertools.count()
        self._ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Id of the process; None if there is none."""
        return None if self._process is None else self._process.pid

    async def open(self) -> None:
        """Start a process and wait until it is ready. Raises WorkerEnded."""
        await self.close()
        self.state = "starting"
        self._ready = asyncio.Event()
        self._frames = asyncio.Queue(FRAMES)
        command = (sys.executable, "-P", "-m", "cloisonne.studio.worker", self.name)
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=STREAM_LIMIT)
        self._reader = asyncio.create_task(self._read(self._process))
        await self._ready.wait()
        if self._process.returncode is not None:
            self.state = "down"
            raise WorkerEnded(self._reason())
        self.state = "ready"

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None, "the process has a pipe"
        try:
            while (frame := await receive_frame(process.stdout)) is not None:
                message = frame[0]
                if message["event"] == "ready":
                    self._ready.set()
                elif message["event"] == "answer":
                    self._resolve(message)
                else:
                    await self._frames.put(frame)
        except BrokenFrame:
            process.kill()
        await process.wait()
        self.state = "down"
        for future in self._answers.values():
            if not future.done():
                future.set_exception(WorkerEnded(self._reason()))
        self._answers.clear()
        self._ready.set()
        await self._frames.put(None)

    def _resolve(self, message: Mapping[str, Any]) -> None:
        future = self._answers.pop(message["call"], None)
        if future is None or future.done():
            return
        if (error := message.get("error")) is None:
            future.set_result(message["answer"])
        else:
            future.set_exception(Refusal(422, error["message"], kind=error["kind"], region=error["region"]))

    def _reason(self) -> str:
        code = None if self._process is None else self._process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f'The process that draws on "{self.name}" ended ({how})'

    async def _send(self, message: Mapping[str, Any]) -> None:
        if self._process is None or self._process.stdin is None or self._process.returncode is not None:
            raise WorkerEnded(self._reason())
        try:
            self._process.stdin.write(packed(message))
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError):
            raise WorkerEnded(self._reason()) from None

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Ask a question and wait for its answer. Raises Refusal or WorkerEnded."""
        call = next(self._calls)
        self._answers[call] = asyncio.get_running_loop().create_future()
        try:
            await self._send({**message, "call": call})
            return await self._answers[call]
        finally:
            self._answers.pop(call, None)

    async def draw(self, jobs: Sequence[Mapping[str, Any]]) -> AsyncIterator[Frame]:
        """Draw jobs together; gives their messages, each job's to done, failed or cancelled. Raises WorkerEnded."""
        self.state = "drawing"
        await self._send({"do": "draw", "jobs": list(jobs)})
        remaining = {job["job"] for job in jobs}
        while (frame := await self._frames.get()) is not None:
            if frame[0]["job"] not in remaining:
                continue
            if frame[0]["event"] in ENDS:
                remaining.discard(frame[0]["job"])
            if not remaining:
                self.state = "ready"
                yield frame
                return
            yield frame
        raise WorkerEnded(self._reason())

    async def cancel(self, job: str) -> None:
        """Ask the process to stop a job before its next step."""
        await self._send({"do": "cancel", "job": job})

    async def stop(self, jobs: Collection[str]) -> None:
        """Stop jobs whose messages nobody reads any more, and wait for their ends. Raises WorkerEnded."""
        remaining = set(jobs)
        for job in jobs:
            await self.cancel(job)
        while remaining and (frame := await self._frames.get()) is not None:
            if frame[0]["event"] in ENDS:
                remaining.discard(frame[0]["job"])
        if remaining:
            raise WorkerEnded(self._reason())
        self.state = "ready"

    async def close(self) -> None:
        """End the process."""
        process, reader = self._process, self._reader
        self._process = self._reader = None
        if process is not None and reader is not None:
            if process.returncode is None:
                process.kill()
            while not reader.done():
                while not self._frames.empty():
                    self._frames.get_nowait()
                await asyncio.sleep(0.005)
            await reader
            if process.stdin is not None:
                process.stdin.close()
        self.state = "down"
