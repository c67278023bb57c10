"""Plots a table's figures with their intervals.

RESULTS.json is written by ``cloisonne evaluate`` next to its tables, and KEY
is one of its figures; or RESULTS.md holds the tables, of which the first is
plotted, and KEY is a heading. Needs matplotlib.
"""

import argparse
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

SKIPPED = ("truth",)


def table_of(text: str) -> dict[str, dict[str, Any]]:
    """Rows of the first markdown table, by name: the value and interval under each heading, or None."""
    lines = [line for line in text.split("\n\n")[1].splitlines() if line.startswith("|")]
    header, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {cells[0]: dict(zip(header[1:], map(estimate, cells[1:]), strict=True)) for cells in body}


def estimate(cell: str) -> dict[str, float] | None:
    """Parse "26.8 [22.5, 31.0]" into its three numbers; None for other cells."""
    numbers = re.findall(r"-?\d+(?:\.\d+)?", cell)
    return dict(zip(("value", "low", "high"), map(float, numbers), strict=True)) if len(numbers) == 3 else None


def main() -> None:
    """Plot one panel per figure and one line per row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="RESULTS.json or RESULTS.md")
    parser.add_argument("out", type=Path, help="image file to write")
    parser.add_argument("keys", nargs="+", metavar="KEY=TITLE", help="figure to plot; the title defaults to the key")
    options = parser.parse_args()
    plt: Any = import_module("matplotlib.pyplot")
    text = options.results.read_text()
    found = table_of(text) if options.results.suffix == ".md" else json.loads(text)["rows"]
    rows = {name: row for name, row in found.items() if name not in SKIPPED}
    panels = [key.partition("=") for key in options.keys]
    size = (4 * len(panels), 0.35 * len(rows) + 1)
    figure, axes = plt.subplots(1, len(panels), sharey=True, squeeze=False, figsize=size)
    for axis, (key, _, title) in zip(axes[0], panels, strict=True):
        for place, row in enumerate(rows.values()):
            if (seen := row.get(key)) is not None:
                low, high = seen["value"] - seen["low"], seen["high"] - seen["value"]
                axis.errorbar(seen["value"], place, xerr=[[low], [high]], fmt="o", capsize=3)
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set_title(title or key)
        axis.grid(axis="x", alpha=0.3)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(options.out, dpi=80)


if __name__ == "__main__":
    main()
