"""Tables of the control benchmark: means, ratios and paired differences, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cloisonne.eval.control_cases import Case
from cloisonne.eval.items import Items
from cloisonne.eval.metrics.bootstrap import Estimate, Sample, ratio
from cloisonne.eval.metrics.frechet import MIN_PICTURES
from cloisonne.eval.report import Headings, Report, Table, estimates
from cloisonne.eval.samples import Estimates, differences, means, paired, sample
from cloisonne.eval.tables import TITLES, distance

DENSITY, FRECHET, SPREAD = "density", "frechet", "spread"
MEASURES: Headings = {
    "f": ("boundary F", True),
    "precision": ("precision", True),
    "recall": ("recall", True),
    DENSITY: ("outside edge density ratio", False),
    "lfmse_in": ("LFMSE in", True),
    "lfmse_out": ("LFMSE out", True),
    "lfmse_tot": ("LFMSE total", True),
    "coincidence": ("coincidence", True),
    "hallucination_in": ("hallucination in", True),
    "hallucination_out": ("hallucination out", True),
    "found_outside": ("objects outside found", True),
    FRECHET: ("Fréchet, whole", False),
}
VARIETY: Headings = {
    "inside": ("inside", True),
    "outside": ("outside", True),
    SPREAD: ("outside / inside", False),
    "whole": ("whole, embedding", False),
}

LEGEND = """### Columns

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


@dataclass(frozen=True, kw_only=True)
class Results:
    """The tables of a run: row -> key of ``MEASURES`` or ``VARIETY`` -> estimate, or None."""

    scenes: int
    objects: int
    first: str
    """The row that the others are compared with."""
    rows: dict[str, Estimates]
    differences: dict[str, Estimates]
    diversity: int
    variety: dict[str, Estimates]
    variety_differences: dict[str, Estimates]

    def report(self) -> Report:
        """The tables; Fréchet distances and ratios have no differences."""
        edged, traced = (self.rows["truth"][name] for name in ("recall", "lfmse_in"))
        summary = (
            f"n = {self.scenes} scenes ({_n(edged)} with edges in the mask, {_n(traced)} with a non-empty mask at an "
            f"eighth of the size), {self.objects} objects outside the masks. Percent, except the ratio and the "
            "distance [95 % interval, bootstrapped over scenes]."
        )
        if self.scenes < MIN_PICTURES:
            summary += f" Fréchet distances need at least {MIN_PICTURES} images."
        compared = f"Row minus {self.first}, paired by scene:"
        parts: list[str | Table] = [
            "### Localized control\n",
            _table("rows", summary, MEASURES, self.rows),
            _table("differences", compared, MEASURES, self.differences, but=FRECHET),
        ]
        if self.diversity:
            summary = (
                f"n = {self.diversity} scenes, 8 seeds each: mean absolute difference of two images, in percent "
                "of the full range, inside and outside the mask, their ratio, and the distance of the judge's "
                "embeddings of whole images."
            )
            parts += [
                "### Diversity\n",
                _table("diversity", summary, VARIETY, self.variety),
                _table("diversity-differences", compared, VARIETY, self.variety_differences, but=SPREAD),
            ]
        return Report((*parts, LEGEND))


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
    samples = {row: {name: sample(items, indices, name) for name in own} for row, items in rows.items()}
    outside = {row: sample(items, indices, "outside") for row, items in rows.items()}
    base = outside[baseline]
    spread_over = indices[:diversity]
    spreads = {
        row: {name: sample(items, spread_over, name) for name in VARIETY if name != SPREAD}
        for row, items in (apart if spread_over else {}).items()
    }
    return Results(
        scenes=len(indices),
        objects=sum(sum(case.outside()) for case in chosen),
        first=first,
        rows={
            row: means(samples[row]) | {DENSITY: ratio(outside[row], base), FRECHET: _distance(items, indices, real)}
            for row, items in rows.items()
        },
        differences={
            row: differences(samples[row], samples[first]) | {DENSITY: ratio(_less(outside[row], outside[first]), base)}
            for row in rows
            if row != first
        },
        diversity=len(spread_over),
        variety={
            row: means(found) | {SPREAD: ratio(*paired(found["outside"], found["inside"]))}
            for row, found in spreads.items()
        },
        variety_differences={row: differences(found, spreads[first]) for row, found in spreads.items() if row != first},
    )


def _less(a: Sample, b: Sample) -> Sample:
    return Sample(a.totals - b.totals, a.counts)


def _distance(items: Items, indices: Sequence[int], real: Sequence[np.ndarray]) -> Estimate | None:
    return distance([np.array([items[index]["whole"]]) for index in indices], real) if real else None


def _table(name: str, caption: str, headings: Headings, rows: Mapping[str, Estimates], but: str = "") -> Table:
    own = {key: heading for key, heading in headings.items() if key != but}
    return estimates(name, caption, own, rows, titles=TITLES)


def _n(estimate: Estimate | None) -> int:
    return estimate.scenes if estimate else 0
