"""Examples made ahead by other processes are those that the caller would make, in order, wherever steps begin."""

import os
from typing import Any

import numpy as np
import pytest
import torch

from cloisonne.train.builtin import clip, clipseg, vae
from cloisonne.train.prefetch import Prefetch, processes


def examples(step: int) -> tuple[Any, ...]:
    """What the stages that draw while they learn are given."""
    if step == 9:
        raise ValueError(f"no picture for step {step}")
    return vae._images(step), clip._pairs(1 / 3, step), clipseg._examples(step)


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    (rgb, pairs, told), (others, *more) = a, b
    drawn = zip([*pairs, *told], [x for part in more for x in part], strict=True)
    return np.array_equal(rgb, others) and all(np.array_equal(x.pixels, y.pixels) for x, y in drawn)


@pytest.mark.slow
def test_other_processes_make_what_the_caller_would_in_order_and_tell_their_errors() -> None:
    ahead = Prefetch(examples, workers=1)
    for step in (2, 3, 8):
        assert same(ahead(step), examples(step))
    with pytest.raises(ValueError, match="no picture for step 9"):
        ahead(9)


def told_twice(how: str, step: int) -> tuple[str, int, int]:
    return how, step, os.getpid()


@pytest.mark.slow
def test_processes_end_where_something_else_is_asked_for() -> None:
    ahead = Prefetch(told_twice, workers=1)
    before = [ahead(step, "half") for step in (0, 1)]
    after = [ahead(step, "whole") for step in (2, 3)]
    assert [made[:2] for made in before + after] == [("half", 0), ("half", 1), ("whole", 2), ("whole", 3)]
    assert before[0][2] == before[1][2] != after[0][2] == after[1][2]
    with pytest.raises(ProcessLookupError):
        os.kill(before[0][2], 0)


def test_nothing_is_started_without_workers() -> None:
    assert Prefetch(lambda step: step + 1, workers=0)(4) == 5
    assert Prefetch(lambda more, step: step + more, workers=0)(4, 3) == 7


def test_cores_that_train_do_not_draw() -> None:
    assert processes(torch.device("cpu")) == 0
    assert processes(torch.device("cuda")) >= 1
