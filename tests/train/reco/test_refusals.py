"""What cannot be trained, continued or written is refused in one sentence, and nothing that lies there is touched."""

from collections.abc import Callable
from pathlib import Path

import pytest
from trained import quiet

from cloisonne.errors import CapabilityError, CheckpointError, CloisonneError, OutputError, TrainingError
from cloisonne.train.reco.settings import Settings
from cloisonne.train.reco.task import train

Quick = Callable[..., Settings]


@pytest.mark.parametrize(
    ("changes", "error", "about"),
    [
        ({"learning_rate": 2e-3}, CheckpointError, "learning_rate 0.001"),
        ({"train_batch_size": 3}, CheckpointError, "pictures a step 2"),
        ({"lora": True}, CheckpointError, "lora False"),
    ],
)
def test_a_run_of_another_configuration_is_not_continued(
    quick: Quick, changes: dict[str, object], error: type[CloisonneError], about: str
) -> None:
    train(quick(max_train_steps=1), quiet)
    with pytest.raises(error, match=about):
        train(quick(resume_from_checkpoint="latest", **changes), quiet)


def test_an_output_that_is_not_empty_is_left_alone(quick: Quick, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("")
    with pytest.raises(OutputError, match="not empty"):
        train(quick(), quiet)
    with pytest.raises(OutputError, match="no checkpoint"):
        train(quick(resume_from_checkpoint="latest"), quiet)
    with pytest.raises(CheckpointError, match="checkpoint-<step>"):
        train(quick(resume_from_checkpoint="checkpoint-7"), quiet)


def test_a_damaged_checkpoint_is_named(quick: Quick, tmp_path: Path) -> None:
    train(quick(max_train_steps=1), quiet)
    (tmp_path / "out" / "checkpoint-1" / "moments.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"moments\.safetensors.*damaged"):
        train(quick(resume_from_checkpoint="latest"), quiet)


@pytest.mark.parametrize(
    ("changes", "error", "about"),
    [
        ({"base": "nowhere"}, CheckpointError, "nowhere"),
        ({"resolution": 100}, TrainingError, "multiple of 16"),
        ({"train_batch_size": 0}, TrainingError, "--train_batch_size is 0"),
        ({"learning_rate": 0.0}, TrainingError, "--learning_rate is 0.0"),
        ({"proportion_empty_prompts": 1.5}, TrainingError, "--proportion_empty_prompts is 1.5"),
        ({"lr_scheduler": "fast"}, TrainingError, '--lr_scheduler is "fast"'),
        ({"mixed_precision": "fp8"}, TrainingError, "--mixed_precision"),
        ({"mixed_precision": "fp16"}, CapabilityError, "needs a GPU"),
        ({"max_length": 16}, TrainingError, "--max_length is 16"),
        ({"seed": -1}, TrainingError, "--seed is -1"),
        ({"learning_rate": 1e20}, TrainingError, "The loss of step"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    quick: Quick, changes: dict[str, object], error: type[CloisonneError], about: str
) -> None:
    with pytest.raises(error, match=about):
        train(quick(**changes), quiet)


def test_stable_diffusion_xl_is_refused(quick: Quick, tiny_xl: Path) -> None:
    with pytest.raises(TrainingError, match="XL"):
        train(quick(base=str(tiny_xl)), quiet)
