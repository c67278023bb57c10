"""Prefetched examples equal those computed by the caller, in order, from any first step."""

import os
from typing import Any

import numpy as np
import pytest
import torch

from cloisonne.train.builtin import clip, clipseg, vae
from cloisonne.train.prefetch import Prefetch, processes


def examples(step: int) -> tuple[Any, ...]:
    """The examples of the stages that render during training."""
    if step == 9:
        raise ValueError(f"no image for step {step}")
    return vae._images(step), clip._pairs(1 / 3, step), clipseg._examples(step)


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    (rgb, pairs, masked), (others, *more) = a, b
    examples_of_both = zip([*pairs, *masked], [x for part in more for x in part], strict=True)
    return np.array_equal(rgb, others) and all(np.array_equal(x.pixels, y.pixels) for x, y in examples_of_both)


@pytest.mark.slow
def test_workers_compute_the_same_examples_in_order_and_report_errors() -> None:
    ahead = Prefetch(examples, workers=1)
    for step in (2, 3, 8):
        assert same(ahead(step), examples(step))
    with pytest.raises(ValueError, match="no image for step 9"):
        ahead(9)


def arguments_and_pid(argument: str, step: int) -> tuple[str, int, int]:
    return argument, step, os.getpid()


@pytest.mark.slow
def test_workers_restart_when_the_arguments_change() -> None:
    ahead = Prefetch(arguments_and_pid, workers=1)
    before = [ahead(step, "half") for step in (0, 1)]
    after = [ahead(step, "whole") for step in (2, 3)]
    assert [made[:2] for made in before + after] == [("half", 0), ("half", 1), ("whole", 2), ("whole", 3)]
    assert before[0][2] == before[1][2] != after[0][2] == after[1][2]
    with pytest.raises(ProcessLookupError):
        os.kill(before[0][2], 0)


def test_no_process_starts_without_workers() -> None:
    assert Prefetch(lambda step: step + 1, workers=0)(4) == 5
    assert Prefetch(lambda more, step: step + more, workers=0)(4, 3) == 7


def test_a_cpu_uses_no_workers() -> None:
    assert processes(torch.device("cpu")) == 0
    assert processes(torch.device("cuda")) >= 1
