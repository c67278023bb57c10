"""``cloisonne batch``: generate the images of a list of scenes. Heavy imports happen in the worker processes."""

import json
import sys
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloisonne.cli.grouped import grouped
from cloisonne.cli.options import Drawing, Loading, NumImages
from cloisonne.cli.terminal import Failed, running, to_stderr
from cloisonne.errors import Cancelled

if TYPE_CHECKING:
    from cloisonne.pipelines.batches.progress import BatchProgress

EVERY = 30.0
"""Seconds between two lines of progress where standard error is no terminal."""
RECENT = 256
"""Warnings that are not printed again; the images of a scene have the same ones."""


@grouped
def batch(
    scenes: Annotated[
        Path,
        typer.Argument(
            metavar="SCENES",
            help="Folder of scenes (JSON, or PNG files that carry one), JSONL file with a scene and its name in each "
            "line, COCO annotation file, or layouts of COCO-MIG or LayoutSAM.",
        ),
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the images, NAME.png, and their manifest.")],
    loading: Loading,
    drawing: Drawing,
    workers: Annotated[int, typer.Option(min=1, help="Processes, each with its own model.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of each worker.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|local", help="Ray cluster whose actors are the workers; local starts one here."),
    ] = None,
    num_images: NumImages = 1,
    dataset: Annotated[
        bool, typer.Option("--dataset", help="Also write annotations.json, COCO annotations of what was asked for.")
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="builtin|owlv2|grounding-dino|PATH",
            help="Who looks for what --dataset annotates, and reports how much of it is there.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace images whose scene or model has changed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print only a JSON report to stdout.")] = False,
) -> None:
    """Generate the images of many scenes. A second call generates what is missing.

    A scene that cannot be generated is reported and does not stop the others. Options of scenes replace the values of
    all scenes.
    """
    from cloisonne.pipelines.batches.run import Settings, asked_of, run

    settings = Settings(workers=workers, threads=threads, dataset=dataset, overwrite=overwrite, judge=judge, ray=ray)
    fields, count = drawing.given(several=True), drawing.count(num_images)
    model = None if loading.model is None else loading.spec(loading.model)
    asked, spec = asked_of(scenes, model, fields, out, count)
    try:
        with running(), _Display() as display:
            report = run(asked, loading.spec(spec.source) if model is None else spec, out, settings, display)
    except KeyboardInterrupt:
        raise Cancelled(
            f'Stopped; the finished images are kept in "{out}". Run the same command again to resume.'
        ) from None
    if as_json:
        typer.echo(json.dumps(asdict(report), default=str))
    else:
        typer.echo(str(report))
    if report.failed:
        raise Failed(f"{len(report.failed)} of {len(asked.scenes)} scenes failed; failures.jsonl lists them.")


class _Display:
    """Shows progress on standard error: a line that is replaced on a terminal, else a line every ``EVERY`` seconds."""

    def __init__(self) -> None:
        self._console: Any = None
        self._status: Any = None
        self._last = time.monotonic()
        self._warned: deque[tuple[str, str]] = deque(maxlen=RECENT)

    def __enter__(self) -> "_Display":
        if sys.stderr.isatty():
            from rich.console import Console

            self._console = Console(stderr=True)
            self._status = self._console.status("loading the model")
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, event: "BatchProgress") -> None:
        """Show the state, and at once what went wrong."""
        if event.error is not None:
            self._print(f'"{event.name}" failed: {event.error}')
        for sentence in event.warnings:
            if (event.name, sentence) in self._warned:
                continue
            self._warned.append((event.name, sentence))
            self._print(f'Warning: "{event.name}": {sentence}')
        if self._status is not None:
            self._status.update(str(event))
        elif time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            to_stderr(str(event))

    def _print(self, line: str) -> None:
        """Print a line above the one that is replaced."""
        if self._console is None:
            to_stderr(line)
        else:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
