"""The parent's side of a worker process."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from cloisonne.errors import CapabilityError, CheckpointError, spelled
from cloisonne.pipelines.batches.frames import BrokenFrame, Frame, packed, read_frame
from cloisonne.pipelines.batches.manifest import Maker
from cloisonne.pipelines.batches.requests import ImageRequest, WorkerEnded

COMMAND = (sys.executable, "-P", "-m", "cloisonne.pipelines.batches.worker")


@dataclass(kw_only=True, eq=False)
class WorkerProcess:
    """A worker on this machine.

    Attributes:
        spec: of the model, as JSON values.
        folder: where the images will be.
        threads: of the processor.
        place: index of the worker.
        command: the program, which answers as ``worker.py`` does.
    """

    spec: Mapping[str, Any]
    folder: Path
    threads: int
    place: int
    command: Sequence[str] = COMMAND
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def open(self) -> Maker:
        """Start the process and load the model. Raises CheckpointError, CapabilityError or WorkerEnded."""
        self.close()
        own = {"OMP_NUM_THREADS": str(self.threads)}
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **own}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, env=environment)
        asked = {"spec": dict(self.spec), "threads": self.threads, "place": self.place}
        self._send({**asked, "command_line": bool(spelled("", "x"))})
        message = self._receive()[0]
        if "refused" in message:
            raise (CheckpointError if message["checkpoint"] else CapabilityError)(message["refused"])
        return Maker(**message["maker"])

    def generate(self, requests: Sequence[ImageRequest]) -> Iterator[Frame]:
        """For each request in turn its message and PNG. Raises WorkerEnded."""
        scenes = [{"scene": request.scene.to_dict()} for request in requests]
        self._send({"requests": scenes, "folder": str(self.folder)})
        for _ in requests:
            yield self._receive()

    def _open_process(self) -> "tuple[subprocess.Popen[bytes], BinaryIO, BinaryIO]":
        process = self._process
        assert process is not None, "the process is open"
        assert process.stdin is not None, "its input is a pipe"
        assert process.stdout is not None, "its output is a pipe"
        return process, cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)

    def _send(self, message: Mapping[str, Any]) -> None:
        _, stdin, _ = self._open_process()
        try:
            stdin.write(packed(message))
            stdin.flush()
        except OSError:
            raise WorkerEnded(self._reason()) from None

    def _receive(self) -> Frame:
        _, _, stdout = self._open_process()
        try:
            frame = read_frame(stdout)
        except BrokenFrame:
            frame = None
        if frame is None:
            raise WorkerEnded(self._reason())
        return frame

    def _reason(self) -> str:
        process, _, _ = self._open_process()
        process.kill()
        code = process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End the process, from any thread."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            process, *pipes = self._open_process()
            process.kill()
            process.wait()
            for pipe in pipes:
                with suppress(OSError):  # what was not sent yet is of no use
                    pipe.close()
            self._process = None
