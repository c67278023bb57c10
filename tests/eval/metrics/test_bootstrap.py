"""Intervals have their nominal coverage, and rows are compared scene by scene."""

import numpy as np
import pytest

from cloisonne.eval.metrics.bootstrap import Sample, deviation, difference, mean, ratio


def flips(rng: np.random.Generator, scenes: int = 100, together: bool = False) -> Sample:
    """Two regions a scene, each right in 7 of 10 cases; ``together``: both or none."""
    right = rng.random((scenes, 2)) < 0.7
    return Sample((2.0 * right[:, 0]) if together else right.sum(1).astype(float), np.full(scenes, 2))


def test_mean_is_over_things_not_over_scenes() -> None:
    estimate = mean(Sample(np.array([3.0, 0, 0]), np.array([3, 1, 0])))
    assert estimate is not None
    assert (estimate.value, estimate.n, estimate.scenes) == (0.75, 4, 2)


def test_what_never_varies_has_no_width() -> None:
    estimate = mean(Sample(np.array([0.5, 1.0]), np.array([1, 2])))
    assert estimate is not None
    assert estimate.low == estimate.value == estimate.high == 0.5


def test_nothing_gives_nothing() -> None:
    empty = Sample(np.zeros(3), np.zeros(3, int))
    assert mean(empty) is None
    assert difference(empty, empty) is None
    assert mean(Sample(np.zeros(0), np.zeros(0, int))) is None


@pytest.mark.parametrize("together", [False, True])
def test_interval_has_its_nominal_coverage(together: bool) -> None:
    """Also where the regions of a scene stand and fall together, and independent ones would promise too much."""
    rng = np.random.default_rng(0)
    estimates = [mean(flips(rng, together=together)) for _ in range(120)]
    holds = [e is not None and e.low <= 0.7 <= e.high for e in estimates]
    assert 0.88 <= np.mean(holds) <= 0.99


def test_same_sample_gives_the_same_interval() -> None:
    sample = flips(np.random.default_rng(1))
    assert mean(sample) == mean(sample)


def test_paired_difference_cancels_what_scenes_share() -> None:
    rng = np.random.default_rng(2)
    a = flips(rng)
    better = Sample(a.totals + (rng.random(100) < 0.1), a.counts)
    gain = difference(better, a)
    alone = mean(better)
    assert gain is not None
    assert alone is not None
    assert gain.value == pytest.approx((better.totals.sum() - a.totals.sum()) / 200)
    assert 0 < gain.low < gain.value < gain.high
    assert gain.high - gain.low < 0.5 * (alone.high - alone.low)


def test_difference_of_equal_rows_is_none() -> None:
    a = flips(np.random.default_rng(3))
    gain = difference(a, a)
    assert gain is not None
    assert gain.low == gain.value == gain.high == 0


def test_ratio_is_of_sums_and_exactly_one_with_itself() -> None:
    rng = np.random.default_rng(5)
    b = Sample(rng.integers(0, 3, 40).astype(float), np.ones(40, int))
    twice = ratio(Sample(2 * b.totals, b.counts), b)
    same = ratio(b, b)
    assert same is not None
    assert twice is not None
    assert same.low == same.value == same.high == 1
    assert twice.low == twice.value == twice.high == 2
    assert same.n == same.scenes == 40


def test_ratio_to_nothing_is_none_and_its_interval_leaves_such_resamples_out() -> None:
    ones = np.ones(4, int)
    a, rare = Sample(np.array([1.0, 1, 1, 1]), ones), Sample(np.array([2.0, 0, 0, 0]), ones)
    assert ratio(a, Sample(np.zeros(4), ones)) is None
    estimate = ratio(a, rare)
    assert estimate is not None
    assert estimate.value == 2
    assert np.isfinite([estimate.low, estimate.high]).all()


def test_deviation_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(4).standard_normal(400)
    assert deviation(400, lambda indices: float(values[indices].mean())) == pytest.approx(1 / 20, rel=0.2)


def grid(values: np.ndarray, there: np.ndarray | None = None) -> Sample:
    """Pairs of sources (rows) by references (columns), those of ``there`` alone."""
    sources, references = np.nonzero(np.ones_like(values) if there is None else there)
    chosen = values[sources, references]
    return Sample(chosen, np.ones(len(chosen), int), (sources, references))


def alone(sample: Sample) -> Sample:
    """The same, its pairs drawn themselves."""
    return Sample(sample.totals, sample.counts)


def width(sample: Sample) -> float:
    estimate = mean(sample)
    assert estimate is not None
    return estimate.high - estimate.low


def test_pairs_that_share_nothing_are_drawn_as_scenes_are() -> None:
    values = np.diag(np.random.default_rng(6).standard_normal(200))
    pairs = grid(values, np.eye(200))
    assert width(pairs) == pytest.approx(width(alone(pairs)), rel=0.05)
    assert width(pairs) == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.15)


def test_pairs_are_as_many_as_the_references_where_only_these_differ() -> None:
    """Also where each reference has sources of its own, which are then no draw more."""
    references = np.random.default_rng(7).standard_normal(10)
    crossed = grid(np.tile(references, (10, 1)))
    few = width(Sample(references, np.ones(10, int)))
    assert width(crossed) == pytest.approx(few, rel=0.1)
    assert width(crossed) > 2 * width(alone(crossed))
    own = Sample(crossed.totals, crossed.counts, (np.arange(100), crossed.factors[1]))
    assert width(own) == pytest.approx(few, rel=0.1)


def test_a_grid_in_part_counts_only_the_pairs_that_are_there() -> None:
    rng = np.random.default_rng(8)
    values, there = rng.standard_normal((10, 10)) + rng.standard_normal(10), rng.random((10, 10)) < 0.4
    part = grid(np.where(there, values, np.nan), there)
    estimate = mean(part)
    assert estimate is not None
    assert estimate.value == pytest.approx(values[there].mean())
    assert estimate.n == estimate.scenes == there.sum()
    assert width(part) > width(alone(part))


def test_interval_over_a_grid_has_at_least_its_nominal_coverage() -> None:
    """One over pairs does so far too seldom."""
    rng = np.random.default_rng(9)
    holds = []
    for _ in range(100):
        pairs = grid(rng.standard_normal((12, 1)) + rng.standard_normal(12) + rng.standard_normal((12, 12)))
        found = [mean(pairs), mean(alone(pairs))]
        holds.append([e is not None and e.low <= 0 <= e.high for e in found])
    crossed, plain = np.mean(holds, 0)
    assert crossed >= 0.88
    assert plain < 0.6


def test_rows_over_a_grid_are_compared_pair_by_pair() -> None:
    rng = np.random.default_rng(10)
    a = grid(3 * rng.standard_normal(10) + rng.standard_normal((10, 10)))
    shift = rng.standard_normal(10)[a.factors[0]]
    b = Sample(a.totals + shift, a.counts, a.factors)
    gain, again = difference(b, a), difference(b, a)
    assert gain is not None
    assert gain == again
    assert gain.value == pytest.approx(shift.mean())
    assert gain.high - gain.low < 0.5 * width(b)
    assert gain.high - gain.low > 2 * width(Sample(shift, a.counts))
