"""From the items of the control benchmark to tables: means, ratios and paired differences, with intervals."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloisonne.eval.control_cases import Case
from cloisonne.eval.items import Items
from cloisonne.eval.metrics.bootstrap import Estimate, Sample, difference, mean, ratio
from cloisonne.eval.metrics.frechet import MIN_PICTURES
from cloisonne.eval.report import figure, table
from cloisonne.eval.tables import distance

DENSITY, FRECHET, SPREAD = "density", "frechet", "spread"
MEASURES = {
    "f": "boundary F",
    "precision": "precision",
    "recall": "recall",
    DENSITY: "outside edge density ratio",
    "lfmse_in": "LFMSE in",
    "lfmse_out": "LFMSE out",
    "lfmse_tot": "LFMSE total",
    "coincidence": "coincidence",
    "hallucination_in": "hallucination in",
    "hallucination_out": "hallucination out",
    "found_outside": "objects outside found",
    FRECHET: "Fréchet, whole",
}
VARIETY = {"inside": "inside", "outside": "outside", SPREAD: "outside / inside", "whole": "whole, embedding"}
"""Key of a figure and its heading."""
_PLAIN = (DENSITY, FRECHET, SPREAD, "whole")
"""Figures that are no shares, not printed in percent."""

_LEGEND = """### Columns

- boundary F: of the edges inside of the mask, against those of the true picture, with a tolerance of 2 pixels; 1 where
  neither picture has edges inside, 0 where only one has. precision: share of the drawn edge pixels that are near a true
  one; recall: share of the true ones near a drawn one
- outside edge density ratio: edge pixels outside of the mask, summed over scenes, divided by those of the row without
  control; 1.00 is ideal: the map takes nothing from the rest and adds nothing to it
- LFMSE: mean squared error of blurred edges at an eighth of the size (arXiv 2602.01991), in hundredths; outside against
  ones, so that fewer edges cost more; total is the sum. Lower is better
- coincidence, hallucination: DiffCC of the same blurred maps (arXiv 2602.01991): 1 less the share of what the truth has
  inside that is fainter in the picture; share of the inside with more than the truth; share of the outside with any
- objects outside found: the judge finds, anywhere in the picture, an object of the captioned class, of those objects
  whose middle lies outside of the mask in the true picture
- Fréchet, whole: squared Fréchet distance to real pictures of other scenes on the judge's embedding

Every row is told the same captions, which name the objects, with the same seeds; none has no control.
"""
_TITLES = {"truth-vae": "truth through the VAE"}

Figures = dict[str, Estimate | None]


@dataclass(frozen=True, kw_only=True)
class Results:
    """The tables of a run: row -> key of ``MEASURES`` or ``VARIETY`` -> estimate, or None where there is none."""

    scenes: int
    objects: int
    first: str
    """The row that the others are compared with."""
    rows: dict[str, Figures]
    differences: dict[str, Figures]
    diversity: int
    variety: dict[str, Figures]
    variety_differences: dict[str, Figures]

    def json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    def markdown(self) -> str:
        """The tables for people."""
        edged, traced = (self.rows["truth"][name] for name in ("recall", "lfmse_in"))
        told = (
            f"n = {self.scenes} scenes ({_n(edged)} with edges in the mask, {_n(traced)} with a mask that shows at an "
            f"eighth of the size), {self.objects} objects outside of the masks. Percent, but for the ratio and the "
            "distance [95 % interval, bootstrapped over scenes]."
        )
        if self.scenes < MIN_PICTURES:
            told += f" Fréchet distances are given from {MIN_PICTURES} pictures on."
        parts = ["### Localized control\n", f"{told}\n", _table(MEASURES, self.rows)]
        parts += [f"Row minus {self.first}, paired by scene:\n", _table(MEASURES, self.differences, but=(FRECHET,))]
        if self.diversity:
            parts += [
                "### Diversity\n",
                f"n = {self.diversity} scenes, 8 seeds each: mean absolute difference of two pictures, in percent "
                "of the full range, inside and outside of the mask, their ratio, and the distance of the judge's "
                "embeddings of whole pictures.\n",
                _table(VARIETY, self.variety),
                f"Row minus {self.first}, paired by scene:\n",
                _table(VARIETY, self.variety_differences, but=(SPREAD,)),
            ]
        return "\n".join([*parts, _LEGEND])


def summarise(
    chosen: Sequence[Case],
    rows: Mapping[str, Items],
    apart: Mapping[str, Items],
    real: Sequence[np.ndarray],
    *,
    unled: str,
    first: str,
    diversity: int,
) -> Results:
    """Tables over ``chosen`` of ``rows``, which hold an item for each of them.

    apart: items of the varieties on the first ``diversity`` scenes. real: embeddings [1, D] of real pictures. unled:
    the row whose edges outside are the measure of the others'. first: the row that differences are from.
    """
    indices = [case.index for case in chosen]
    own = [name for name in MEASURES if name not in (DENSITY, FRECHET)]
    samples = {row: {name: _sample(items, indices, name) for name in own} for row, items in rows.items()}
    outside = {row: _sample(items, indices, "outside") for row, items in rows.items()}
    base = outside[unled]
    spread_over = indices[:diversity]
    spreads = {
        row: {name: _sample(items, spread_over, name) for name in VARIETY if name != SPREAD}
        for row, items in (apart if spread_over else {}).items()
    }
    return Results(
        scenes=len(indices),
        objects=sum(sum(case.outside()) for case in chosen),
        first=first,
        rows={
            row: {name: mean(sample) for name, sample in samples[row].items()}
            | {DENSITY: ratio(outside[row], base), FRECHET: _distance(items, indices, real)}
            for row, items in rows.items()
        },
        differences={
            row: _differences(samples[row], samples[first])
            | {DENSITY: ratio(_less(outside[row], outside[first]), base)}
            for row in rows
            if row != first
        },
        diversity=len(spread_over),
        variety={
            row: {name: mean(sample) for name, sample in found.items()}
            | {SPREAD: ratio(*_paired(found["outside"], found["inside"]))}
            for row, found in spreads.items()
        },
        variety_differences={
            row: _differences(found, spreads[first]) for row, found in spreads.items() if row != first
        },
    )


def _sample(items: Items, indices: Sequence[int], name: str) -> Sample:
    """A figure of every scene, or a list of them; None is left out."""
    values = [items[index][name] for index in indices]
    listed: list[list[Any]] = [value if isinstance(value, list) else [value] for value in values]
    said = [[value for value in scene if value is not None] for scene in listed]
    return Sample(np.array([sum(scene) for scene in said], float), np.array([len(scene) for scene in said]))


def _differences(a: Mapping[str, Sample], b: Mapping[str, Sample]) -> Figures:
    return {name: difference(*_paired(sample, b[name])) for name, sample in a.items()}


def _paired(a: Sample, b: Sample) -> tuple[Sample, Sample]:
    """Both, of the scenes alone that have a figure in both."""
    both = (a.counts > 0) & (b.counts > 0)
    return Sample(a.totals * both, a.counts * both), Sample(b.totals * both, b.counts * both)


def _less(a: Sample, b: Sample) -> Sample:
    return Sample(a.totals - b.totals, a.counts)


def _distance(items: Items, indices: Sequence[int], real: Sequence[np.ndarray]) -> Estimate | None:
    return distance([np.array([items[index]["whole"]]) for index in indices], real) if real else None


def _table(headings: Mapping[str, str], rows: Mapping[str, Figures], but: Sequence[str] = ()) -> str:
    names = [name for name in headings if name not in but]
    body = [
        [_TITLES.get(row, row), *(figure(own[name], percent=name not in _PLAIN) for name in names)]
        for row, own in rows.items()
    ]
    return table(["", *(headings[name] for name in names)], body)


def _n(estimate: Estimate | None) -> int:
    return estimate.scenes if estimate else 0
