"""A worker process: it draws the jobs of one device, one after the other or together, and answers dry runs meanwhile.

``python -m cloisonne.studio.worker DEVICE`` reads messages (``frames.py``) from standard input and writes to standard
output. It ends when its input ends, in the middle of a step too, so that no worker outlives its server.
"""

import importlib
import io
import os
import queue
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from cloisonne.errors import Cancelled, on_command_line
from cloisonne.pipelines.batches.frames import packed, read_frame
from cloisonne.studio.scenes import scene_of, with_ids

PREVIEW_SHARE = 0.05
"""Previews take at most this fraction of the time since the first step."""
PREVIEW_SIDE = 512
"""Largest side of a preview in pixels."""
NICENESS = 5
"""Where the processor is busy, the server answers before the worker draws."""
MODELS = 2
"""Models that stay loaded."""


class Models:
    """The models used last, by name; a load excludes others."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._loaded: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str, spec: Mapping[str, Any]) -> Any:
        """A model. Raises what loading raises."""
        from cloisonne.studio.drawing import load_model

        with self._lock:
            if name not in self._loaded:
                while len(self._loaded) >= MODELS:
                    self._loaded.popitem(last=False)
                self._loaded[name] = load_model(spec, self._device)
            self._loaded.move_to_end(name)
            return self._loaded[name]


class Worker:
    """The process's state: its streams, its models, and the job that it draws."""

    def __init__(self, device: str, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink
        self._writing = threading.Lock()
        self._models = Models(device)
        self._jobs: queue.Queue[list[dict[str, Any]]] = queue.Queue()
        self._questions: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelled: set[str] = set()

    def send(self, message: Mapping[str, Any], data: bytes = b"") -> None:
        """Send a message to the server."""
        with self._writing:
            self._sink.write(packed(message, data))
            self._sink.flush()

    def run(self) -> None:
        """Draw until the process ends."""
        for target in (self._receive, self._answer):
            threading.Thread(target=target, daemon=True).start()
        from cloisonne.studio import drawing

        with drawing.quiet(), on_command_line():
            while True:
                jobs = self._jobs.get()
                for job in jobs if len(jobs) == 1 else self._draw_together(jobs):
                    self._draw(job)

    def _receive(self) -> None:
        while (frame := read_frame(self._source)) is not None:
            message = frame[0]
            if message["do"] == "cancel":
                self._cancelled.add(message["job"])
            elif message["do"] == "draw":
                # Drawn once more, after an end that a cancelling met too late.
                self._cancelled.difference_update(job["job"] for job in message["jobs"])
                self._jobs.put(message["jobs"])
            else:
                self._questions.put(message)
        os._exit(0)

    def _answer(self) -> None:
        from cloisonne.studio import drawing

        with on_command_line():
            while True:
                asked = self._questions.get()
                try:
                    model = self._models.get(asked["model"], asked["spec"])
                    if asked["do"] == "load":
                        answer = drawing.describe_model(model)
                    else:
                        answer = drawing.dry_run(self._scene(asked), model)
                    self.send({"event": "answer", "call": asked["call"], "answer": answer})
                except Exception as error:
                    kind, text, region = drawing.error_of(error)
                    failed = {"kind": kind, "message": text, "region": region}
                    self.send({"event": "answer", "call": asked["call"], "error": failed})

    @staticmethod
    def _scene(asked: Mapping[str, Any]) -> Any:
        paths = asked["inputs"]
        scene = scene_of(asked["scene"], lambda picture: Path(paths[picture]["path"]).read_bytes())
        return scene.replace(model=asked["spec"]["source"])

    def _draw(self, asked: dict[str, Any]) -> None:
        from cloisonne.studio import drawing

        job = asked["job"]
        report = self._progress(job, self._check(job))
        try:
            report({"stage": "loading"}, None)
            model = self._models.get(asked["model"], asked["spec"])
            report({"stage": "preparing"}, None)
            drawn = drawing.draw(asked["verb"], self._scene(asked), model, asked["options"], report)
            self._check(job)()
            self._send_drawn(asked, drawn)
        except Cancelled:
            self.send({"event": "cancelled", "job": job})
        except Exception as error:
            kind, text, region = drawing.error_of(error)
            self.send({"event": "failed", "job": job, "error": {"kind": kind, "message": text, "region": region}})
        finally:
            self._cancelled.discard(job)

    def _draw_together(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Draw jobs of one model and equal options in shared forward passes.

        A job that is cancelled ends at its next step; the others go on. Returns the jobs that have to be drawn alone,
        because something failed, so that each fails or succeeds by itself.
        """
        from cloisonne.studio import drawing

        asked = {job["job"]: job for job in jobs}
        try:
            reports = [self._progress(job, self._check_together(job, asked), len(jobs)) for job in asked]
            for report in reports:
                report({"stage": "loading"}, None)
            model = self._models.get(jobs[0]["model"], jobs[0]["spec"])
            for report in reports:
                report({"stage": "preparing"}, None)
            scenes = [self._scene(job) for job in jobs]
            made = drawing.draw_together(scenes, model, jobs[0]["options"], reports)
            for job, drawn in zip(jobs, made, strict=True):
                if job["job"] in asked:
                    self._send_drawn(job, drawn)
                    del asked[job["job"]]
        except Exception:  # each job that has not ended finds its own
            return list(asked.values())
        finally:
            self._cancelled.difference_update(job["job"] for job in jobs if job["job"] not in asked)
        return []

    def _send_drawn(self, asked: Mapping[str, Any], drawn: Any) -> None:
        for name, png in drawn.pictures:
            self.send({"event": "picture", "job": asked["job"], "name": name}, png)
        self.send({"event": "done", "job": asked["job"], "report": _public(drawn.report, asked)})

    def _progress(self, job: str, check: Callable[[], bool], jobs: int = 1) -> "Progress":
        def send(fields: Mapping[str, Any], data: bytes = b"") -> None:
            self.send({"event": "progress", "job": job, **fields}, data)

        return Progress(send, check, PREVIEW_SHARE / jobs)

    def _check(self, job: str) -> Callable[[], bool]:
        """True while a job is to be drawn; the function raises Cancelled where it is cancelled."""

        def check() -> bool:
            if job in self._cancelled:
                raise Cancelled("The job was cancelled.")
            return True

        return check

    def _check_together(self, job: str, asked: dict[str, Any]) -> Callable[[], bool]:
        """Like :meth:`_check`, but only the last of several jobs raises; ``asked`` are those that have not ended."""

        def check() -> bool:
            if job in self._cancelled and job in asked:
                del asked[job]
                self.send({"event": "cancelled", "job": job})
            if not asked:
                raise Cancelled("All jobs were cancelled.")
            return job in asked

        return check


class Progress:
    """Sends progress events, with a preview where previews have not taken more than a share of the time."""

    def __init__(self, send: Callable[..., None], check: Callable[[], bool], share: float = PREVIEW_SHARE) -> None:
        self._send = send
        self._check = check
        self._share = share
        self._began: float | None = None
        self._spent = 0.0

    def __call__(self, fields: dict[str, Any], preview: Callable[[], Any] | None) -> None:
        """Send an event. Raises Cancelled where the job is."""
        if not self._check():
            return
        now = time.perf_counter()
        if preview is None or (self._began is not None and self._spent > self._share * (now - self._began)):
            self._send(fields)
            return
        image = preview()
        self._send(fields, b"" if image is None else _webp(image))
        if self._began is None:  # the first one is slower than all others, and not counted
            self._began = time.perf_counter()
        else:
            self._spent += time.perf_counter() - now


def _webp(image: Any) -> bytes:
    image = image.convert("RGB")
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80, method=0)
    return file.getvalue()


def _public(report: dict[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """A report without paths, with ids in place of pictures and the model's name in place of its source."""
    report = dict(report)
    for output in report.get("outputs", ()):
        output.pop("path", None)
    if "scene" in report:
        ids = {one["sha256"]: picture for picture, one in asked["inputs"].items()}
        report["scene"] = with_ids(report["scene"], ids) | {"model": asked["model"]}
    return report


def main() -> None:
    """Run a worker on the device named by the first argument."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print does not end up between the messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    worker = Worker(sys.argv[1], source, sink)
    importlib.import_module("cloisonne.studio.drawing")
    importlib.import_module("torch")  # takes seconds
    worker.send({"event": "ready", "device": sys.argv[1]})
    worker.run()


if __name__ == "__main__":
    main()
