"""What commands show while they run: progress and messages on standard error, and failures apart from refusals."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer

from cloisonne.errors import CloisonneError, OutputError


@contextmanager
def running() -> Iterator[None]:
    """From here on an error that is not about what was asked for is a failure of the run."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        if isinstance(error, CloisonneError) and not isinstance(error, OutputError):
            raise
        reason = str(error).strip().splitlines()
        raise Failed(f"The run failed: {reason[0] if reason else type(error).__name__}") from error


class Failed(Exception):
    """A failure while running."""


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


@dataclass(frozen=True, eq=False)
class Bar:
    """A bar on standard error; silent where that is no terminal. num_images: whose steps it counts."""

    num_images: int
    shown: Any
    task: Any

    def step(self, end: Any) -> None:
        """Of all pictures, after a step of one."""
        total, done = end.step.count * self.num_images, end.image * end.step.count + end.step.index + 1
        self.shown.update(self.task, description="drawing", total=total, completed=done)

    def stage(self, what: str, at: int, count: int, loss: float | None = None, /) -> None:
        """What is being done, how far, of how much, and the loss where something is fitted."""
        said = what if loss is None else f"{what}, loss {loss:.4g}"
        self.shown.update(self.task, description=said, total=count, completed=at)


@contextmanager
def progress(num_images: int = 1) -> Iterator[Bar]:
    """A bar that goes away at the end."""
    with _bar() as shown:
        yield Bar(num_images, shown, shown.add_task("beginning"))


def warn(sentences: Iterable[str]) -> None:
    """Print each warning once."""
    for sentence in dict.fromkeys(sentences):
        to_stderr(f"Warning: {sentence}")


def took(began: float) -> None:
    """Print how long a command has run. began: of ``time.perf_counter()``."""
    to_stderr(f"Done in {time.perf_counter() - began:.1f} s.")


def to_stderr(line: str) -> None:
    """Print a line that is not the result."""
    typer.echo(line, err=True)
