"""Draws the plots of docs/plots.md from the records in benchmarks/records.

    python scripts/plots.py            # rewrite docs/images/plots
    python scripts/plots.py check      # fail if a plot would change

Needs matplotlib. The same records and version of matplotlib give the same bytes.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from cloisonne.eval.metrics.bootstrap import Estimate
from records import ROOT, Records

FOLDER = ROOT / "docs" / "images" / "plots"
STYLE: Any = {
    "svg.hashsalt": "cloisonne",
    "svg.fonttype": "none",  # text stays text: small files, and a reader's own font
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows of tables side by side, one panel for each figure.

    rows: (label, RECORD/TABLE/ROW). figures: (heading of the column, title of the panel).
    """

    rows: Sequence[tuple[str, str]]
    figures: Sequence[tuple[str, str]]
    percent: bool = True

    def draw(self, records: Records) -> Any:
        """The figure: a dot with its 95 % interval for each row."""
        size = (3.0 * len(self.figures), 0.3 * len(self.rows) + 0.9)
        figure, axes = plt.subplots(1, len(self.figures), sharey=True, squeeze=False, figsize=size)
        scale = 100 if self.percent else 1
        for axis, (column, title) in zip(axes[0], self.figures, strict=True):
            for place, (_, path) in enumerate(self.rows):
                found = cell(records, path, column)
                if found is not None:
                    value, low, high = (scale * number for number in found)
                    axis.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", capsize=3, color="C0")
            axis.set_title(title, fontsize=9)
            axis.grid(axis="x", alpha=0.3)
        axes[0][0].set_yticks(range(len(self.rows)), [label for label, _ in self.rows])
        axes[0][0].invert_yaxis()
        return figure


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Figures against a number: lines with their intervals where these are known.

    points: (number, RECORD/TABLE/ROW). figures: (heading of the column, label). where: of the rows, the columns that
    must have a value, for tables whose rows share a name.
    """

    title: str
    axis: str
    points: Sequence[tuple[float, str]]
    figures: Sequence[tuple[str, str]]
    log: bool = False

    def draw(self, records: Records) -> Any:
        """The figure."""
        figure, axis = plt.subplots(figsize=(4.2, 2.8))
        for column, label in self.figures:
            found = [(number, cell(records, path, column)) for number, path in self.points]
            known = [(number, *value) for number, value in found if value is not None]
            numbers, values, lows, highs = zip(*known, strict=True)
            (line,) = axis.plot(numbers, [100 * v for v in values], "o-", label=label)
            axis.fill_between(
                numbers, [100 * v for v in lows], [100 * v for v in highs], alpha=0.15, color=line.get_color()
            )
        if self.log:
            axis.set_xscale("log")
        axis.set(title=self.title, xlabel=self.axis, ylabel="%")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
        return figure


@dataclass(frozen=True)
class Cost:
    """The time of a step against the number of regions, relative to one region, by way of attending."""

    shape: str
    forms: Mapping[str, str]

    def draw(self, records: Records) -> Any:
        """The figure."""
        figure, axis = plt.subplots(figsize=(4.2, 2.8))
        rows = [row for row in records.table("regions/regions").rows if row[0] == self.shape]
        for form, label in self.forms.items():
            own = [(1, 1.0), *((int(str(row[2])), float(str(row[4]).split()[0])) for row in rows if row[1] == form)]
            axis.plot(*zip(*own, strict=True), "o-", label=label)
        axis.set(title=f"Time of a step, {self.shape}", xlabel="regions", ylabel="times one region", yscale="log")
        axis.set_yticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
        return figure


METHODS = [
    *((name, f"layouts/all/{name}") for name in ("reco",)),
    ("bounded", "layouts-bounded/all/bounded"),
    ("bounded-words", "layouts-bounded/all/bounded-words"),
    *((name, f"layouts/all/{name}") for name in ("words", "attention", "multidiffusion", "caption", "truth")),
]

PLOTS: Mapping[str, Comparison | Curve | Cost] = {
    "regions": Comparison(
        rows=METHODS,
        figures=(
            ("found in the box", "found in its box, %"),
            ("class on the crop", "named in its box, %"),
            ("found anywhere", "found anywhere, %"),
        ),
    ),
    "edits": Comparison(
        rows=[(name, f"edits/all/{name}") for name in ("mrgd", "words", "truth")] + [("flow", "edits-flow/all/flow")],
        figures=(("success", "edits that succeed, %"), ("SSIM-e", "SSIM-e"), ("SSIM-i", "SSIM-i")),
    ),
    "exemplars": Comparison(
        rows=[
            ("by exemplar", "exemplars/rows/s3"),
            ("by words", "exemplars/rows/words"),
            ("pasted", "exemplars/rows/copy-paste"),
            ("truth", "exemplars/rows/truth"),
        ],
        figures=(("identity", "identity, %"), ("similarity", "similarity"), ("QS", "quality score")),
    ),
    "controls": Comparison(
        rows=[
            ("no map", "control/rows/none"),
            ("masked features", "control/rows/control-canny"),
            ("masked map", "control/rows/edges-masked-map"),
            ("no mask", "control/rows/everywhere-unmasked"),
        ],
        figures=(
            ("boundary F", "edges followed inside, %"),
            ("outside edge density ratio", "edges outside, % of no map"),
        ),
    ),
    "similarity": Curve(
        title="Exemplars: similarity",
        axis="similarity",
        points=[(number, f"exemplars-similarity/rows/s{number}") for number in (1, 3, 5, 7, 9)],
        figures=(("identity", "identity"), ("QS", "quality score")),
    ),
    "boost": Curve(
        title="bounded: how often a phrase counts",
        axis="region_boost",
        points=[
            (1, "bounded/screened/`attention`: no boost"),
            (300, "bounded/variants/boost 300"),
            (1000, "bounded/variants/boost 1000, the phrase once"),
            (5000, "bounded/variants/boost 5000"),
        ],
        figures=(
            ("found in the box", "found in its box"),
            ("class on the crop", "named in its box"),
            ("found anywhere", "found anywhere"),
        ),
        log=True,
    ),
    "cost": Cost(
        "builtin",
        {
            "gathered": "a text for each region: bounded, attention",
            "separate": "a prediction for each region: multidiffusion",
        },
    ),
}


def cell(records: Records, path: str, column: str) -> tuple[float, float, float] | None:
    """Value and interval of a cell, the value alone where it has none; None where the cell is empty."""
    record, table, row = path.split("/", 2)
    found = records.table(f"{record}/{table}")
    place = [one.title for one in found.columns].index(column)
    value = next(cells[place] for cells in found.rows if cells[0] == row)
    if isinstance(value, Estimate):
        return value.value, value.low, value.high
    if value in (None, ""):
        return None
    number = float(str(value)) / 100
    return number, number, number


def drawn(plot: Comparison | Curve | Cost, records: Records) -> bytes:
    """A plot as SVG."""
    with mpl.rc_context(STYLE):
        figure = plot.draw(records)
        figure.tight_layout()
        out = BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        plt.close(figure)
    return out.getvalue()


def main() -> None:
    """Write or check all plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=("write", "check"), default="write")
    command, records, stale = parser.parse_args().command, Records(), []
    FOLDER.mkdir(exist_ok=True)
    for name, plot in PLOTS.items():
        file, made = FOLDER / f"{name}.svg", drawn(plot, records)
        if not file.is_file() or file.read_bytes() != made:
            stale.append(file.name)
            if command == "write":
                file.write_bytes(made)
    if command == "write":
        print(f"Wrote {', '.join(stale)}" if stale else "All plots are as the records say.")
    elif stale:
        sys.exit(f"{', '.join(stale)} differ from the records; run python scripts/plots.py.")


if __name__ == "__main__":
    main()
