import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cloisonne.scene.overlap import region_weights, uncovered

SHAPE = (3, 4)
masks = arrays.arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32))
layers = st.lists(st.tuples(masks, st.floats(0, 4), st.integers(-2, 2)), min_size=1, max_size=4)
rules = pytest.mark.parametrize("overlap", ["blend", "priority", "union"])


def weights(regions, overlap) -> list[np.ndarray]:
    return region_weights(*(list(part) for part in zip(*regions, strict=True)), overlap)


@rules
@given(regions=layers)
def test_the_order_of_regions_changes_nothing(overlap, regions) -> None:
    expected = weights(regions, overlap)
    for order in itertools.permutations(range(len(regions))):
        found = weights([regions[index] for index in order], overlap)
        assert all((found[place] == expected[index]).all() for place, index in enumerate(order))
        assert (uncovered(found, *SHAPE) == uncovered(expected, *SHAPE)).all()


@rules
@given(regions=layers)
def test_outside_its_mask_a_region_counts_nothing(overlap, regions) -> None:
    for (mask, _, _), weight in zip(regions, weights(regions, overlap), strict=True):
        assert (weight[mask == 0] == 0).all()
        assert (weight >= 0).all()


@rules
@given(mask=masks)
def test_a_lone_region_counts_as_its_mask(overlap, mask) -> None:
    (weight,) = weights([(mask, 1.0, 0)], overlap)
    assert (weight == mask).all()
    assert uncovered([weight], *SHAPE) == pytest.approx(1 - mask)


@given(regions=layers)
def test_blend_weighs_and_union_does_not(regions) -> None:
    for (mask, weight, _), blended, united in zip(
        regions, weights(regions, "blend"), weights(regions, "union"), strict=True
    ):
        assert blended == pytest.approx(mask * weight)
        assert (united == mask).all()


@given(regions=layers)
def test_equal_priorities_blend(regions) -> None:
    level = [(mask, weight, 1) for mask, weight, _ in regions]
    for blended, ranked in zip(weights(level, "blend"), weights(level, "priority"), strict=True):
        assert (blended == ranked).all()


def test_a_higher_priority_hides_what_is_below_it_as_far_as_it_is_opaque() -> None:
    top = np.array([[0, 0.25, 1]], np.float32)
    full = np.ones((1, 3), np.float32)
    # The weight is the strength of a region, not its opacity.
    high, low, lowest = weights([(top, 0.5, 7), (full, 2.0, 3), (full, 1.0, -1)], "priority")
    assert high.tolist() == [[0, 0.125, 0.5]]
    assert low.tolist() == [[2, 1.5, 0]]
    assert lowest.tolist() == [[0, 0, 0]]


def test_uncovered_is_what_the_weights_leave_of_one() -> None:
    a, b = np.array([[0, 0.25, 1]], np.float32), np.array([[0, 0.5, 0.5]], np.float32)
    assert uncovered([a, b], 1, 3).tolist() == [[1, 0.25, 0]]
    assert uncovered([], 1, 3).tolist() == [[1, 1, 1]]
