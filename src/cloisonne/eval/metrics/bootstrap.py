"""95 % confidence intervals, bootstrapped over scenes: the regions of one scene are resampled together.

If scenes cross shared factors, as pairs cross sources and references, each factor is resampled by itself and a scene
counts the product of its factors' counts (Owen, "The pigeonhole bootstrap", arXiv 0712.1111). Intervals over scenes
would be too narrow there; these are too wide, by up to the square root of 3 the less of a grid is present.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
_COSTLY_DRAWS = 100
SMALLEST = 10
"""Fewest scenes for which an interval is printed: resamples of fewer are too similar for 95 % coverage."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval. n: number of observations. scenes: number of scenes."""

    value: float
    low: float
    high: float
    n: int
    scenes: int


@dataclass(frozen=True)
class Sample:
    """A quantity over scenes: its sum in each scene and the number of observations (regions); both [scenes].

    factors: the level of each scene, [scenes], for each factor that is resampled instead of scenes; empty to resample
    scenes. Combinations may be absent.
    """

    totals: np.ndarray
    counts: np.ndarray
    factors: tuple[np.ndarray, ...] = ()


def mean(sample: Sample) -> Estimate | None:
    """The mean over observations; None without any."""
    return _estimate(sample, lambda times: _ratio(times, sample))


def difference(a: Sample, b: Sample) -> Estimate | None:
    """Mean of ``a`` minus mean of ``b``, two rows over the same scenes.

    Both share their resamples, so that the difficulty of a scene cancels out.
    """
    return _estimate(a, lambda times: _ratio(times, a) - _ratio(times, b))


def ratio(a: Sample, b: Sample) -> Estimate | None:
    """Mean of ``a`` divided by the mean of ``b``, two rows over the same scenes and resamples; None if b is 0."""
    if b.totals.sum() == 0:
        return None

    def value_of(times: np.ndarray) -> np.ndarray:
        defined = times[(times @ b.totals) != 0]
        return _ratio(defined, a) / _ratio(defined, b)

    return _estimate(a, value_of)


def deviation(scenes: int, value_of: Callable[[np.ndarray], float]) -> float:
    """Standard deviation of ``value_of(indices of scenes)`` over resamples, for statistics other than means.

    A distance of distributions grows when scenes repeat, so percentiles of its resamples would be biased upwards: its
    interval is the value ± 1.96 standard deviations.
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
    """[DRAWS, scenes]: the count of each scene in each resample."""
    scenes = len(sample.counts)
    # The seed is the number of scenes, so that all rows of a table share their resamples.
    rng = np.random.default_rng(scenes)
    times = np.ones((DRAWS, scenes), int)
    for place in _crossed(sample.factors) or [np.arange(scenes)]:
        there = place.max() + 1
        times *= rng.multinomial(there, np.full(there, 1 / there), size=DRAWS)[:, place]
    return times


def _crossed(factors: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Level indices of each factor; factors nested in another one are dropped in favour of it."""
    places = [np.unique(kind, return_inverse=True)[1] for kind in factors]
    for fine in reversed(places):
        others = [place for place in places if place is not fine]
        if any(len(np.unique([fine, place], axis=1).T) == fine.max() + 1 for place in others):
            places = others
    return places


def _ratio(times: np.ndarray, sample: Sample) -> np.ndarray:
    return (times @ sample.totals) / (times @ sample.counts)
