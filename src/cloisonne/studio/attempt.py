"""One job on a device: what its worker process sends about it is published and stored."""

import asyncio
from typing import Any

from cloisonne.studio import intake
from cloisonne.studio.ledger import Ledger
from cloisonne.studio.refusals import StorageFull
from cloisonne.studio.storage.store import Picture


class Attempt:
    """A job from the time that it is taken from the queue to its end.

    Attributes:
        job: its id.
        channel: its readers.
        pictures: whose files are written.
        ended: whether the end of the job is published.
    """

    def __init__(self, ledger: Ledger, job: str) -> None:
        self.job = job
        self.channel = ledger.channels[job]
        self.pictures: list[Picture] = []
        self.ended = False
        self._ledger = ledger
        self._previews = 0
        self._trouble: StorageFull | None = None

    async def take(self, frame: dict[str, Any], data: bytes) -> None:
        """Publish or store a message of the worker. What cannot be stored fails the job at its end."""
        kind = frame["event"]
        if kind == "progress":
            await self._publish(frame, data)
        elif kind == "picture" and self._trouble is None:
            given = (data, self._ledger.store.files, frame["name"], self.job, len(self.pictures))
            try:
                self.pictures.append(await asyncio.to_thread(intake.made, *given))
            except StorageFull as error:
                self._trouble = error
        elif kind == "done":
            await self._complete(frame["report"])
        elif kind in ("failed", "cancelled"):
            self.ended = True
            await self._ledger.end(self.job, kind, frame.get("error"))

    async def _publish(self, frame: dict[str, Any], data: bytes) -> None:
        fields = {name: value for name, value in frame.items() if name not in ("job", "event")}
        if data:
            self._previews += 1
            fields["preview"] = f"/v1/jobs/{self.job}/preview?n={self._previews}"
        await self._ledger.publish(self.job, self.channel, fields, data)

    async def _complete(self, report: dict[str, Any]) -> None:
        try:
            if self._trouble is not None:
                raise self._trouble
            await self._ledger.complete(self.job, report, self.pictures)
            self.ended = True
        except StorageFull as error:
            await self.fail("storage", str(error))

    async def interrupt(self, message: str) -> None:
        """End the job, if it has not ended, because the process that drew it did."""
        if not self.ended:
            self.ended = True
            await self._ledger.interrupt(self.job, message)

    async def fail(self, kind: str, message: str) -> None:
        """End the job as failed, if it has not ended."""
        if not self.ended:
            self.ended = True
            await self._ledger.end(self.job, "failed", {"kind": kind, "message": message, "region": None})
