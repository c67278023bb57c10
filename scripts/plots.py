"""Draws a table's figures with their intervals: ``python scripts/plots.py RESULTS.json OUT.png KEY[=TITLE] ...``.

RESULTS.json is what ``cloisonne evaluate`` writes beside its tables; KEY is one of its figures. Needs matplotlib, which
nothing else does.
"""

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any

SKIPPED = ("truth",)


def main() -> None:
    """One panel a figure, one line a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("keys", nargs="+", metavar="KEY=TITLE")
    told = parser.parse_args()
    plt: Any = import_module("matplotlib.pyplot")
    rows = {name: row for name, row in json.loads(told.results.read_text())["rows"].items() if name not in SKIPPED}
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
