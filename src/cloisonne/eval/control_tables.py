"""Tables of the control benchmark: means, ratios and paired differences, with intervals."""

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
"""Key and heading of each figure."""
_PLAIN = (DENSITY, FRECHET, SPREAD, "whole")
"""Figures that are not printed in percent."""

_LEGEND = """### Columns

- boundary F: F-measure of the edges inside the mask against the ground truth's, with a tolerance of 2 pixels; 1 if
  neither image has edges inside, 0 if only one has. precision: fraction of the generated edge pixels near a true one;
  recall: fraction of the true ones near a generated one
- outside edge density ratio: edge pixels outside the mask, summed over scenes, divided by those of the row without
  control; 1.00 is ideal: the map neither removes nor adds edges there
- LFMSE: mean squared error of blurred edges at an eighth of the size (arXiv 2602.01991), in hundredths; outside
  against ones, so fewer edges give a larger error; total is the sum. Lower is better
- coincidence, hallucination: DiffCC of the same blurred maps (arXiv 2602.01991): 1 minus the fraction of the ground
  truth's edges inside that are fainter in the image; fraction of the inside with more edges than the ground truth;
  fraction of the outside with any
- objects outside found: fraction of the objects centred outside the mask whose class the judge finds anywhere in the
  image
- Fréchet, whole: squared Fréchet distance to real images of other scenes on the judge's embedding

Every row has the same captions, which name the objects, and the same seeds; row none has no control.
"""
_TITLES = {"truth-vae": "truth through the VAE"}

Figures = dict[str, Estimate | None]


@dataclass(frozen=True, kw_only=True)
class Results:
    """The tables of a run: row -> key of ``MEASURES`` or ``VARIETY`` -> estimate, or None."""

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
        """The tables in markdown."""
        edged, traced = (self.rows["truth"][name] for name in ("recall", "lfmse_in"))
        summary = (
            f"n = {self.scenes} scenes ({_n(edged)} with edges in the mask, {_n(traced)} with a non-empty mask at an "
            f"eighth of the size), {self.objects} objects outside the masks. Percent, except the ratio and the "
            "distance [95 % interval, bootstrapped over scenes]."
        )
        if self.scenes < MIN_PICTURES:
            summary += f" Fréchet distances need at least {MIN_PICTURES} images."
        parts = ["### Localized control\n", f"{summary}\n", _table(MEASURES, self.rows)]
        parts += [f"Row minus {self.first}, paired by scene:\n", _table(MEASURES, self.differences, but=(FRECHET,))]
        if self.diversity:
            parts += [
                "### Diversity\n",
                f"n = {self.diversity} scenes, 8 seeds each: mean absolute difference of two images, in percent "
                "of the full range, inside and outside the mask, their ratio, and the distance of the judge's "
                "embeddings of whole images.\n",
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
    baseline: str,
    first: str,
    diversity: int,
) -> Results:
    """Tables over ``chosen`` of ``rows``, which hold an item for each of them.

    apart: items with the variety of the first ``diversity`` scenes. real: embeddings [1, D] of real images. baseline:
    the row that the edge densities outside are divided by. first: the row that differences are taken from.
    """
    indices = [case.index for case in chosen]
    own = [name for name in MEASURES if name not in (DENSITY, FRECHET)]
    samples = {row: {name: _sample(items, indices, name) for name in own} for row, items in rows.items()}
    outside = {row: _sample(items, indices, "outside") for row, items in rows.items()}
    base = outside[baseline]
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
    """One figure of every scene, or a list of figures; None is skipped."""
    values = [items[index][name] for index in indices]
    listed: list[list[Any]] = [value if isinstance(value, list) else [value] for value in values]
    present = [[value for value in scene if value is not None] for scene in listed]
    return Sample(np.array([sum(scene) for scene in present], float), np.array([len(scene) for scene in present]))


def _differences(a: Mapping[str, Sample], b: Mapping[str, Sample]) -> Figures:
    return {name: difference(*_paired(sample, b[name])) for name, sample in a.items()}


def _paired(a: Sample, b: Sample) -> tuple[Sample, Sample]:
    """Both samples, restricted to the scenes that have a figure in both."""
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
