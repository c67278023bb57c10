"""Samples of the items of a benchmark: one figure of every scene, its means over rows and its paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cloisonne.eval.items import Items
from cloisonne.eval.metrics.bootstrap import Estimate, Sample, difference, mean

Samples = Mapping[str, Sample]
"""The samples of a row by the keys of its figures."""
Estimates = dict[str, Estimate | None]
"""The estimates of a row by the same keys."""


def sample(items: Items, indices: Sequence[int], name: str) -> Sample:
    """One figure of every scene, or a list of figures; None is skipped, and so is a scene measured without it."""
    values = [items[index].get(name) for index in indices]
    listed: list[list[Any]] = [value if isinstance(value, list) else [value] for value in values]
    present = [[value for value in one if value is not None] for one in listed]
    return Sample(np.array([sum(one) for one in present], float), np.array([len(one) for one in present]))


def means(samples: Samples) -> Estimates:
    """The mean of every figure of a row."""
    return {name: mean(one) for name, one in samples.items()}


def differences(row: Samples, first: Samples) -> Estimates:
    """A row minus the first one, over the scenes that have the figure in both."""
    return {name: difference(*paired(one, first[name])) for name, one in row.items()}


def differences_of(rows: Mapping[str, Samples], first: str) -> dict[str, Estimates]:
    """All rows but the first, minus the first."""
    return {row: differences(own, rows[first]) for row, own in rows.items() if row != first}


def paired(a: Sample, b: Sample) -> tuple[Sample, Sample]:
    """Both samples, restricted to the scenes that have a figure in both."""
    both = (a.counts > 0) & (b.counts > 0)
    return Sample(a.totals * both, a.counts * both, a.factors), Sample(b.totals * both, b.counts * both, b.factors)
