"""A progress bar for the Python functions: on standard error, if that is a terminal, or in a notebook."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cloisonne.pipelines.progress import Progress, bar_counts


class ProgressBar:
    """One bar per stage: a new one begins when the stage or its number of steps changes."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage: tuple[str, int] = ("", 0)

    def __call__(self, event: Progress) -> None:
        """Show a finished step, and the loss while something is learned or fitted."""
        from tqdm.auto import tqdm

        done, total = bar_counts(event)
        if self._bar is None or self._stage != (event.stage, total):
            self.close()
            self._bar = tqdm(total=total, desc=event.stage, leave=False, file=sys.stderr)
            self._stage = event.stage, total
        if event.loss is not None:
            self._bar.set_postfix(loss=f"{event.loss:.4g}", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None


@contextmanager
def with_bar(options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The options of a run without ``progress``; their ``on_step`` moves a bar first.

    There is a bar if ``progress`` is True or left out, and standard error is a terminal or a notebook shows it. Raises
    TypeError where it is no bool, such as a function, which belongs into ``on_step``.
    """
    from rich.console import Console

    given = dict(options)
    wanted, on_step = given.pop("progress", True), given.get("on_step")
    if not isinstance(wanted, bool):
        raise TypeError(f"progress is {wanted!r}; give True or False, and a function as on_step.")
    if not wanted or not (Console().is_jupyter or (sys.stderr is not None and sys.stderr.isatty())):
        yield given
        return
    bar = ProgressBar()

    def both(event: Progress) -> None:
        bar(event)
        if on_step is not None:
            on_step(event)

    try:
        yield {**given, "on_step": both}
    finally:
        bar.close()
