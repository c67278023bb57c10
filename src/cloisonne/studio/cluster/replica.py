"""A replica of a model: one worker process on the machine and the device that Ray gives it.

It needs none of the server's files: pictures come with the jobs, and go back with the messages.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from cloisonne.pipelines.batches.frames import Frame
from cloisonne.studio.device import ENDS, Device, WorkerEnded
from cloisonne.studio.refusals import Refusal
from cloisonne.studio.storage.ids import is_id

FILES = "files"
"""Key of the bytes of a message's pictures, by id."""


def carried(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with the bytes of its pictures in place of their paths."""
    inputs = message.get("inputs", {})
    files = {picture: Path(one["path"]).read_bytes() for picture, one in inputs.items()}
    return {**message, "inputs": {picture: {"sha256": one["sha256"]} for picture, one in inputs.items()}, FILES: files}


def unpacked(message: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The inverse of :func:`carried`, with files in another folder."""
    inputs = {}
    for picture, png in message[FILES].items():
        assert is_id(picture), "pictures are named by ids"
        path = folder / f"{picture}.png"
        path.write_bytes(png)
        inputs[picture] = {**message["inputs"][picture], "path": str(path)}
    return {name: value for name, value in message.items() if name != FILES} | {"inputs": inputs}


class ModelReplica:
    """A model on a device. Its worker process ends with the process that it is in.

    Args:
        name: of the model.
        spec: of the model, as JSON values.
        device: such as "cpu" or "cuda".
    """

    def __init__(self, name: str, spec: Mapping[str, Any], device: str) -> None:
        self._model = {"model": name, "spec": dict(spec)}
        self._device = Device(device)
        self._opening = asyncio.Lock()
        self._drawing = asyncio.Lock()
        self._stopping: asyncio.Task[None] | None = None

    async def _opened(self) -> None:
        """Start the worker process if there is none, and load the model. Raises WorkerEnded."""
        async with self._opening:
            if self._device.state in ("down", "starting"):
                await self._device.open()
                with suppress(Refusal):  # its jobs say why
                    await self._device.ask({"do": "load", **self._model})

    async def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a question: "answer", or "refused" with the reason, or "ended" where the worker process ended."""
        try:
            await self._opened()
            with tempfile.TemporaryDirectory(prefix="cloisonne-") as folder:
                asked = await asyncio.to_thread(unpacked, message, Path(folder))
                return {"answer": await self._device.ask(asked)}
        except Refusal as refusal:
            return {"refused": {"message": str(refusal), "kind": refusal.kind, "region": refusal.region}}
        except WorkerEnded as ended:
            return {"ended": str(ended)}

    async def draw(self, jobs: Sequence[Mapping[str, Any]]) -> AsyncIterator[Frame]:
        """Draw jobs together and give their messages. Who stops reading cancels them.

        The last message has the event "ended" where the worker process ended.
        """
        async with self._drawing:
            if self._stopping is not None:
                await self._stopping
            left: set[str] = set()  # of those that the worker process knows
            try:
                await self._opened()
                with tempfile.TemporaryDirectory(prefix="cloisonne-") as folder:
                    asked = [await asyncio.to_thread(unpacked, job, Path(folder)) for job in jobs]
                    left = {job["job"] for job in jobs}
                    async with aclosing(self._device.draw(asked)) as frames:  # type: ignore[type-var]
                        async for frame in frames:
                            if frame[0]["event"] in ENDS:
                                left.discard(frame[0]["job"])
                            yield frame
            except WorkerEnded as ended:
                left.clear()
                yield {"event": "ended", "reason": str(ended)}, b""
            finally:
                if left:
                    self._stopping = asyncio.create_task(self._stop(left))

    async def _stop(self, jobs: set[str]) -> None:
        with suppress(WorkerEnded):  # which stops them too
            await self._device.stop(jobs)
