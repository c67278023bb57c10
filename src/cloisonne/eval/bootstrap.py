"""95 % intervals, bootstrapped over scenes: the regions of one scene are drawn together and stand or fall together."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
_COSTLY_DRAWS = 100


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
    """A quantity over scenes: its sum in each scene, and of how many things (regions); both [scenes]."""

    totals: np.ndarray
    counts: np.ndarray


def mean(sample: Sample) -> Estimate | None:
    """The mean over things; None where there is none."""
    return _estimate(sample.counts, lambda times: _ratio(times, sample))


def difference(a: Sample, b: Sample) -> Estimate | None:
    """Mean of ``a`` minus mean of ``b``, two rows over the same scenes.

    Both are resampled alike, so that what a hard scene costs both cancels out.
    """
    return _estimate(a.counts, lambda times: _ratio(times, a) - _ratio(times, b))


def ratio(a: Sample, b: Sample) -> Estimate | None:
    """Mean of ``a`` divided by the mean of ``b``, two rows over the same scenes, resampled alike; None where b is 0."""
    if b.totals.sum() == 0:
        return None

    def value_of(times: np.ndarray) -> np.ndarray:
        defined = times[(times @ b.totals) != 0]
        return _ratio(defined, a) / _ratio(defined, b)

    return _estimate(a.counts, value_of)


def deviation(scenes: int, value_of: Callable[[np.ndarray], float]) -> float:
    """Standard deviation of ``value_of(indices of scenes)`` over resamples, for what is no mean.

    A distance of distributions grows when scenes repeat, so the percentiles of its resamples would lie too high: its
    interval is the value ± 1.96 of these.
    """
    rng = np.random.default_rng(scenes)
    return float(np.std([value_of(rng.integers(scenes, size=scenes)) for _ in range(_COSTLY_DRAWS)], ddof=1))


def _estimate(counts: np.ndarray, value_of: Callable[[np.ndarray], np.ndarray]) -> Estimate | None:
    scenes = len(counts)
    if counts.sum() == 0:
        return None
    # The seed is the number of scenes, so that all rows of a table share their resamples.
    times = np.random.default_rng(scenes).multinomial(scenes, np.full(scenes, 1 / scenes), size=DRAWS)
    resampled = value_of(times[(times @ counts) > 0])
    low, high = np.percentile(resampled, [2.5, 97.5])
    value = float(value_of(np.ones((1, scenes), int))[0])
    return Estimate(value=value, low=float(low), high=float(high), n=int(counts.sum()), scenes=int((counts > 0).sum()))


def _ratio(times: np.ndarray, sample: Sample) -> np.ndarray:
    return (times @ sample.totals) / (times @ sample.counts)
