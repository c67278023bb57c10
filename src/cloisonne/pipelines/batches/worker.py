"""A worker process: it loads a model and generates images, until its input ends.

``python -m cloisonne.pipelines.batches.worker`` reads messages (``frames.py``) from standard input and writes to
standard output. It writes no files. It ends with its input, in the middle of a step too, so that none outlives its
parent.
"""

import os
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cloisonne.errors import CheckpointError, CloisonneError, on_command_line
from cloisonne.pipelines.batches.frames import packed, read_frame

Answer = tuple[dict[str, Any], bytes]
"""A message and a PNG; a message with "error" has none."""


class Generator(Protocol):
    """As :class:`~cloisonne.pipelines.batches.generator.ImageGenerator`."""

    def maker(self) -> dict[str, Any]: ...

    def generate(self, requests: Sequence[Mapping[str, Any]], folder: Path) -> Iterator[Answer]: ...


def serve(load: Callable[..., Generator]) -> None:
    """Answer messages with what ``load(spec, threads=..., place=...)`` returns, until the process ends."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print does not end up between the messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox: queue.Queue[dict[str, Any]] = queue.Queue()

    def receive() -> None:
        try:
            while (frame := read_frame(source)) is not None:
                inbox.put(frame[0])
        finally:
            os._exit(0)

    def send(message: Mapping[str, Any], data: bytes = b"") -> None:
        sink.write(packed(message, data))
        sink.flush()

    threading.Thread(target=receive, daemon=True).start()
    asked = inbox.get()
    with on_command_line() if asked["command_line"] else warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are in the answers
        try:
            generator = load(asked["spec"], threads=asked["threads"], place=asked["place"])
            maker = generator.maker()
        except CloisonneError as error:
            send({"refused": str(error), "checkpoint": isinstance(error, CheckpointError)})
            return
        send({"maker": maker})
        while True:
            asked = inbox.get()
            for message, png in generator.generate(asked["requests"], Path(asked["folder"])):
                send(message, png)


if __name__ == "__main__":
    from cloisonne.pipelines.batches.generator import ImageGenerator

    serve(ImageGenerator)
