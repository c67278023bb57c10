"""95 % intervals, bootstrapped over scenes: the regions of one scene are drawn together and stand or fall together.

Where scenes cross things that they share, as pairs cross sources and references, each kind of thing is drawn by itself,
and a scene counts as often as the product of its things (Owen, "The pigeonhole bootstrap", arXiv 0712.1111). Intervals
over scenes would be too narrow there; these err to the wide side, the more the less of a grid is there, by up to the
square root of 3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
_COSTLY_DRAWS = 100
SMALLEST = 10
"""Scenes from which on an interval is printed: resamples of fewer are too much alike to promise 95 %."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, and of how many things in how many scenes."""

    value: float
    low: float
    high: float
    n: int
    scenes: int


@dataclass(frozen=True)
class Sample:
    """A quantity over scenes: its sum in each scene, and of how many things (regions); both [scenes].

    drawn: for each kind of thing that is drawn in place of scenes, which one each scene has, [scenes]; empty where
    scenes themselves are drawn. Combinations may be absent.
    """

    totals: np.ndarray
    counts: np.ndarray
    drawn: tuple[np.ndarray, ...] = ()


def mean(sample: Sample) -> Estimate | None:
    """The mean over things; None where there is none."""
    return _estimate(sample, lambda times: _ratio(times, sample))


def difference(a: Sample, b: Sample) -> Estimate | None:
    """Mean of ``a`` minus mean of ``b``, two rows over the same scenes.

    Both are resampled alike, so that what a hard scene costs both cancels out.
    """
    return _estimate(a, lambda times: _ratio(times, a) - _ratio(times, b))


def ratio(a: Sample, b: Sample) -> Estimate | None:
    """Mean of ``a`` divided by the mean of ``b``, two rows over the same scenes, resampled alike; None where b is 0."""
    if b.totals.sum() == 0:
        return None

    def value_of(times: np.ndarray) -> np.ndarray:
        defined = times[(times @ b.totals) != 0]
        return _ratio(defined, a) / _ratio(defined, b)

    return _estimate(a, value_of)


def deviation(scenes: int, value_of: Callable[[np.ndarray], float]) -> float:
    """Standard deviation of ``value_of(indices of scenes)`` over resamples, for what is no mean.

    A distance of distributions grows when scenes repeat, so the percentiles of its resamples would lie too high: its
    interval is the value ± 1.96 of these.
    """
    rng = np.random.default_rng(scenes)
    return float(np.std([value_of(rng.integers(scenes, size=scenes)) for _ in range(_COSTLY_DRAWS)], ddof=1))


def _estimate(sample: Sample, value_of: Callable[[np.ndarray], np.ndarray]) -> Estimate | None:
    counts, scenes = sample.counts, len(sample.counts)
    if counts.sum() == 0:
        return None
    times = _times(sample)
    resampled = value_of(times[(times @ counts) > 0])
    low, high = np.percentile(resampled, [2.5, 97.5])
    value = float(value_of(np.ones((1, scenes), int))[0])
    return Estimate(value=value, low=float(low), high=float(high), n=int(counts.sum()), scenes=int((counts > 0).sum()))


def _times(sample: Sample) -> np.ndarray:
    """[DRAWS, scenes]: how often a resample has each scene."""
    scenes = len(sample.counts)
    # The seed is the number of scenes, so that all rows of a table share their resamples.
    rng = np.random.default_rng(scenes)
    times = np.ones((DRAWS, scenes), int)
    for place in _crossed(sample.drawn) or [np.arange(scenes)]:
        there = place.max() + 1
        times *= rng.multinomial(there, np.full(there, 1 / there), size=DRAWS)[:, place]
    return times


def _crossed(drawn: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Places from 0 on of each kind, without a kind whose things each stay with one thing of another: that is drawn."""
    places = [np.unique(kind, return_inverse=True)[1] for kind in drawn]
    for fine in reversed(places):
        others = [place for place in places if place is not fine]
        if any(len(np.unique([fine, place], axis=1).T) == fine.max() + 1 for place in others):
            places = others
    return places


def _ratio(times: np.ndarray, sample: Sample) -> np.ndarray:
    return (times @ sample.totals) / (times @ sample.counts)
