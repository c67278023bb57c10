"""What commands show while they run: progress and messages on standard error, and failures apart from refusals."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def progress(num_images: int) -> Iterator[Callable[[Any], None]]:
    """A bar on standard error that counts the steps of all pictures; silent where that is no terminal."""
    with _bar() as bar:
        task = bar.add_task("drawing")

        def callback(end: Any) -> None:
            total = end.step.count * num_images
            bar.update(task, total=total, completed=end.image * end.step.count + end.step.index + 1)

        yield callback


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error for what goes through several stages: (what is done, how far, of how much)."""
    with _bar() as bar:
        task = bar.add_task("beginning")
        yield lambda what, at, count: bar.update(task, description=what, total=count, completed=at)


def to_stderr(line: str) -> None:
    """Print a line that is not the result."""
    typer.echo(line, err=True)
