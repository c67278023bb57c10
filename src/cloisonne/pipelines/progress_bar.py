"""A progress bar on standard error for the Python functions, if that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class ProgressBar:
    """One bar per stage; a new stage begins when the name or the number of steps changes."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage: tuple[str, int] = ("", 0)
        self._counts_stages = False

    def stage(self, what: str, at: int, count: int, loss: float | None = None, /) -> None:
        """Show the stage, the step reached, the number of steps, and the loss while fitting."""
        self._counts_stages = True
        self._show(what, at, count, loss)

    def _show(self, what: str, at: int, count: int, loss: float | None = None) -> None:
        from tqdm import tqdm

        if self._bar is None or self._stage != (what, count):
            self.close()
            self._bar, self._stage = tqdm(total=count, desc=what, leave=False, file=sys.stderr), (what, count)
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        self._bar.update(at - self._bar.n)

    def step(self, end: Any) -> None:
        """Show a ``StepEnd`` of one of several images; does nothing once stages are displayed."""
        if not self._counts_stages:
            self._show("sampling", end.image * end.step.count + end.step.index + 1, end.num_images * end.step.count)

    def edit_step(self, end: Any) -> None:
        """Show an ``EditStep``."""
        self.stage(end.doing, end.done, end.step.count)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None


@contextmanager
def progress_bar(asked: object) -> Iterator[ProgressBar | None]:
    """A bar if ``asked`` is True and standard error is a terminal; else None."""
    if asked is not True or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    bar = ProgressBar()
    try:
        yield bar
    finally:
        bar.close()


def both(first: Callable[..., None] | None, second: Callable[..., None] | None) -> Callable[..., None] | None:
    """A callback that calls two others, either of which may be None."""
    if first is None or second is None:
        return first or second

    def call(*given: Any) -> None:
        first(*given)
        second(*given)

    return call
