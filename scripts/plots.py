"""Draws a table's figures with their intervals: ``python scripts/plots.py RESULTS.json OUT.png KEY[=TITLE] ...``.

RESULTS.json is what ``cloisonne evaluate`` writes beside its tables, and KEY one of its figures; or RESULTS.md is its
tables, of which the first is drawn, and KEY a heading. Needs matplotlib, which nothing else does.
"""

import argparse
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

SKIPPED = ("truth",)


def table_of(text: str) -> dict[str, dict[str, Any]]:
    """Rows of the first table in markdown, by name: of each heading the value and its interval, or None."""
    lines = [line for line in text.split("\n\n")[1].splitlines() if line.startswith("|")]
    header, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {cells[0]: dict(zip(header[1:], map(estimate, cells[1:]), strict=True)) for cells in body}


def estimate(cell: str) -> dict[str, float] | None:
    """ "26.8 [22.5, 31.0]" as its three numbers."""
    numbers = re.findall(r"-?\d+(?:\.\d+)?", cell)
    return dict(zip(("value", "low", "high"), map(float, numbers), strict=True)) if len(numbers) == 3 else None


def main() -> None:
    """One panel a figure, one line a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("keys", nargs="+", metavar="KEY=TITLE")
    told = parser.parse_args()
    plt: Any = import_module("matplotlib.pyplot")
    text = told.results.read_text()
    found = table_of(text) if told.results.suffix == ".md" else json.loads(text)["rows"]
    rows = {name: row for name, row in found.items() if name not in SKIPPED}
    panels = [key.partition("=") for key in told.keys]
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
    figure.savefig(told.out, dpi=80)


if __name__ == "__main__":
    main()
