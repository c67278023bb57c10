"""Tables in markdown."""

from collections.abc import Sequence

from cloisonne.eval.metrics.bootstrap import SMALLEST, Estimate


def figure(estimate: Estimate | None, *, percent: bool = True) -> str:
    """Format a value with its interval, "91.3 [89.0, 93.2]"; a dash for None.

    Fewer than ``SMALLEST`` scenes give no interval: "91.3 [–, n < 10]".
    """
    if estimate is None:
        return "–"
    scale, digits = (100, 1) if percent else (1, 2)
    # Adding zero takes the sign from a rounded -0.0.
    numbers = (round(number * scale, digits) + 0.0 for number in (estimate.value, estimate.low, estimate.high))
    value, low, high = (f"{number:.{digits}f}" for number in numbers)
    if estimate.scenes < SMALLEST:
        return f"{value} [–, n < {SMALLEST}]"
    return f"{value} [{low}, {high}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table, its first column left-aligned and the others right-aligned."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)) + "\n"
