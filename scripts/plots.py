"""Plots a table's figures with their intervals.

RECORD/TABLE is a table of benchmarks/records, as in control-ablation/rows, and
KEY is one of its headings. Needs matplotlib.
"""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from cloisonne.eval.metrics.bootstrap import Estimate
from records import Records

SKIPPED = ("truth",)


def main() -> None:
    """Plot one panel per figure and one line per row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", metavar="RECORD/TABLE", help="the table to plot")
    parser.add_argument("out", type=Path, help="image file to write")
    parser.add_argument("keys", nargs="+", metavar="KEY=TITLE", help="figure to plot; the title defaults to the key")
    options = parser.parse_args()
    plt: Any = import_module("matplotlib.pyplot")
    table = Records().table(options.table)
    titles = [column.title for column in table.columns]
    rows = {row[0]: dict(zip(titles, row, strict=True)) for row in table.rows if row[0] not in SKIPPED}
    panels = [key.partition("=") for key in options.keys]
    size = (4 * len(panels), 0.35 * len(rows) + 1)
    figure, axes = plt.subplots(1, len(panels), sharey=True, squeeze=False, figsize=size)
    for axis, (key, _, title) in zip(axes[0], panels, strict=True):
        for place, row in enumerate(rows.values()):
            found = row.get(key)
            if isinstance(found, Estimate):
                low, high = found.value - found.low, found.high - found.value
                axis.errorbar(found.value, place, xerr=[[low], [high]], fmt="o", capsize=3)
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set_title(title or key)
        axis.grid(axis="x", alpha=0.3)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(options.out, dpi=80)


if __name__ == "__main__":
    main()
