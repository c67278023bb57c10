"""Progress and messages on standard error, the exception for a failed run, and how idle threads wait."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cloisonne.errors import CloisonneError, OutputError

if TYPE_CHECKING:
    from cloisonne.pipelines.progress import Progress


@contextmanager
def running() -> Iterator[None]:
    """Turn errors that are not about the request into :class:`Failed`."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        if isinstance(error, CloisonneError) and not isinstance(error, OutputError):
            raise
        reason = str(error).strip().splitlines()
        raise Failed(f"The run failed: {reason[0] if reason else type(error).__name__}") from error


class Failed(Exception):
    """A run that failed."""


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


@dataclass(frozen=True, eq=False)
class Bar:
    """A progress bar on standard error, as ``on_step``; silent if that is no terminal."""

    bar: Any
    task: Any

    def __call__(self, event: "Progress") -> None:
        """Show a finished step; sampling counts the steps of all images together."""
        from cloisonne.pipelines.progress import bar_counts

        done, total = bar_counts(event)
        description = event.stage if event.loss is None else f"{event.stage}, loss {event.loss:.4g}"
        self.bar.update(self.task, description=description, total=total, completed=done)


@contextmanager
def progress() -> Iterator[Bar]:
    """A progress bar that is removed at the end."""
    with _bar() as bar:
        yield Bar(bar, bar.add_task("starting"))


def warn(sentences: Iterable[str]) -> None:
    """Print each warning once."""
    for sentence in dict.fromkeys(sentences):
        to_stderr(f"Warning: {sentence}")


def show(paths: Iterable[Path]) -> None:
    """Open files with the system's viewer; a warning where there is none."""
    for path in paths:
        if typer.launch(str(path)) != 0:
            to_stderr(f"Warning: {path} was not opened, because this system has no viewer; open it yourself.")


def took(began: float) -> None:
    """Print how long a command took, since ``began`` of ``time.perf_counter()``."""
    to_stderr(f"Done in {time.perf_counter() - began:.1f} s.")


def to_stderr(line: str) -> None:
    """Print a line to standard error."""
    typer.echo(line, err=True)


def wait_passively() -> None:
    """Let idle OpenMP threads sleep, not spin, in this process and its children.

    An ``OMP_WAIT_POLICY`` that is set already stays. OpenMP reads it when its library is loaded, so set it before torch
    is imported. The number of threads, and with it every image, stays the same.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
