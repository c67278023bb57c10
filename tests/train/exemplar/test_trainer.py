"""A run of exemplars goes on where it stopped to the last bit, does not depend on how it is cut, and learns."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from trained import assert_close, assert_equal, quiet

from cloisonne.errors import CheckpointError, CloisonneError, TrainingError
from cloisonne.train.exemplar.settings import Settings
from cloisonne.train.exemplar.task import train

Quick = Callable[..., Settings]


@pytest.mark.parametrize(
    "more",
    [{"use_ema": True}, {"lora": True, "rank": 4, "context": "all"}],
    ids=["plain", "lora"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(quick: Quick, tmp_path: Path, more: dict[str, object]) -> None:
    train(quick(output=tmp_path / "whole", max_train_steps=3, **more), quiet)
    train(quick(max_train_steps=2, **more), quiet)
    torch.manual_seed(99)
    losses = train(quick(max_train_steps=3, resume_from_checkpoint="latest", **more), quiet)
    assert len(losses) == 1
    assert_equal(tmp_path / "whole", tmp_path / "out")


def test_accumulated_passes_are_one_batch(quick: Quick, tmp_path: Path) -> None:
    """Adam with a large epsilon: a small one makes of a gradient of 1e-9, which is rounding, a step of full size."""
    train(quick(output=tmp_path / "one", train_batch_size=4, max_train_steps=2, adam_epsilon=1e-3), quiet)
    train(quick(gradient_accumulation_steps=2, max_train_steps=2, adam_epsilon=1e-3), quiet)
    assert_close(tmp_path / "one", tmp_path / "out")


def test_gradient_checkpointing_changes_nothing(quick: Quick, tmp_path: Path) -> None:
    train(quick(output=tmp_path / "plain", max_train_steps=2), quiet)
    train(quick(gradient_checkpointing=True, max_train_steps=2), quiet)
    assert_close(tmp_path / "plain", tmp_path / "out")


def test_seeds_differ_and_repeat(quick: Quick, tmp_path: Path) -> None:
    losses = [
        train(quick(output=tmp_path / str(k), seed=seed, max_train_steps=2), quiet) for k, seed in enumerate((0, 0, 1))
    ]
    assert losses[0] == losses[1] != losses[2]
    assert_equal(tmp_path / "0", tmp_path / "1")


@pytest.mark.parametrize(
    ("more", "least"),
    [({}, 0.2), ({"lora": True, "learning_rate": 2e-2, "rank": 16}, 0.05)],
    ids=["whole", "lora"],
)
def test_the_loss_falls(quick: Quick, tmp_path: Path, more: dict[str, object], least: float) -> None:
    """Below that of the untrained base on the same images, noise and levels."""
    settings = {"learning_rate": 5e-3, "max_train_steps": 12, "train_batch_size": 2, **more}
    learned = train(quick(**settings), quiet)
    still = train(quick(**settings | {"learning_rate": 1e-12, "output": tmp_path / "still"}), quiet)
    assert learned[0] == still[0]
    assert np.mean(learned[-6:]) < np.mean(still[-6:]) - least


def test_the_world_trains_it(quick: Quick, tiny_family: Path) -> None:
    losses = train(quick(base=str(tiny_family), data="world", style_pairs=0.5, max_train_steps=2), quiet)
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("changes", "error", "about"),
    [
        ({"context": "none"}, TrainingError, '--context is "none"'),
        ({"mapper_blocks": 0}, TrainingError, "--mapper_blocks is 0"),
        ({"rank": 0}, TrainingError, "--rank is 0"),
        ({"proportion_null": 1.5}, TrainingError, "--proportion_null is 1.5"),
        ({"min_area": -0.1}, TrainingError, "--min_area is -0.1"),
        ({"style_pairs": float("nan")}, TrainingError, "--style_pairs is nan"),
        ({"image_encoder": "nowhere"}, CheckpointError, "nowhere"),
        ({"min_area": 0.7}, TrainingError, "70% to 80%"),
        ({"learning_rate": 1e20}, TrainingError, "The loss of step"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    quick: Quick, changes: dict[str, object], error: type[CloisonneError], about: str
) -> None:
    with pytest.raises(error, match=about) as raised:
        train(quick(**changes), quiet)
    assert "\n" not in str(raised.value)


def test_a_run_of_another_tower_is_not_continued(quick: Quick, tmp_path: Path, tower: Path) -> None:
    train(quick(max_train_steps=1), quiet)
    with pytest.raises(CheckpointError, match="image_encoder"):
        train(quick(resume_from_checkpoint="latest", image_encoder=f"{tower}/."), quiet)
