"""A run learns, goes on where it stopped to the last bit, and does not depend on how its work is shared out."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from trained import assert_close, assert_equal, quiet

from cloisonne.train.reco.settings import Settings
from cloisonne.train.reco.task import train

Quick = Callable[..., Settings]


@pytest.mark.parametrize(
    "more",
    [
        {"use_ema": True, "gradient_accumulation_steps": 2},
        {"lora": True, "lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 3},
        {"mixed_precision": "bf16"},
    ],
    ids=["ema", "lora", "bf16"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(quick: Quick, tmp_path: Path, more: dict[str, object]) -> None:
    train(quick(output=tmp_path / "whole", max_train_steps=5, **more), quiet)
    train(quick(max_train_steps=2, **more), quiet)
    torch.manual_seed(99)
    losses = train(quick(max_train_steps=5, resume_from_checkpoint="latest", **more), quiet)
    assert len(losses) == 3
    assert_equal(tmp_path / "whole", tmp_path / "out")


def test_a_stop_in_between_goes_on_from_the_last_checkpoint(quick: Quick, tmp_path: Path) -> None:
    def kill(line: str) -> None:
        if line.startswith("step 10 "):
            raise KeyboardInterrupt

    train(quick(output=tmp_path / "whole", max_train_steps=12, checkpointing_steps=8), quiet)
    with pytest.raises(KeyboardInterrupt):
        train(quick(max_train_steps=12, checkpointing_steps=8), kill)
    (tmp_path / "out" / "checkpoint-11.partial").mkdir()
    assert len(train(quick(max_train_steps=12, resume_from_checkpoint="latest"), quiet)) == 4
    assert_equal(tmp_path / "whole", tmp_path / "out")


def test_a_named_checkpoint_may_go_on_elsewhere(quick: Quick, tmp_path: Path) -> None:
    train(quick(output=tmp_path / "whole", checkpointing_steps=1, checkpoints_total_limit=2), quiet)
    names = sorted(entry.name for entry in (tmp_path / "whole").glob("checkpoint*"))
    assert names == ["checkpoint-3", "checkpoint-4"]
    files = sorted(file.name for file in (tmp_path / "whole" / "checkpoint-3").iterdir())
    assert files == ["moments.safetensors", "parameters.safetensors", "state.json"]
    train(quick(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3")), quiet)
    assert_equal(tmp_path / "whole", tmp_path / "out")


def test_accumulated_passes_are_one_batch(quick: Quick, tmp_path: Path) -> None:
    """Adam with a large epsilon: a small one makes of a gradient of 1e-9, which is rounding, a step of full size."""
    train(quick(output=tmp_path / "one", train_batch_size=4, adam_epsilon=1e-3), quiet)
    train(quick(train_batch_size=2, gradient_accumulation_steps=2, adam_epsilon=1e-3), quiet)
    assert_close(tmp_path / "one", tmp_path / "out")


def test_gradient_checkpointing_changes_nothing(quick: Quick, tmp_path: Path) -> None:
    train(quick(output=tmp_path / "plain"), quiet)
    train(quick(gradient_checkpointing=True), quiet)
    assert_close(tmp_path / "plain", tmp_path / "out")


def test_the_average_is_what_is_written(quick: Quick, tmp_path: Path) -> None:
    """Followed by hand through the checkpoints of every step."""
    train(quick(output=tmp_path / "plain", checkpointing_steps=1), quiet)
    train(quick(use_ema=True, ema_decay=0.15), quiet)
    name = "unet.conv_in.weight"
    from cloisonne.models.load import load

    average = load(quick().base).net.unet.conv_in.weight.detach()
    for step in range(4):
        after = load_file(tmp_path / "plain" / f"checkpoint-{step + 1}" / "parameters.safetensors")[name]
        average = torch.lerp(average, after, 1 - min(0.15, (1 + step) / (10 + step)))
    written = load_file(tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    torch.testing.assert_close(written, average, atol=1e-7, rtol=0)
    last = load_file(tmp_path / "out" / "checkpoint-4" / "parameters.safetensors")[name]
    assert not torch.equal(written, last)


@pytest.mark.parametrize(
    ("more", "least"),
    [({}, 0.2), ({"lora": True, "learning_rate": 2e-2, "rank": 16}, 0.02)],
    ids=["whole", "lora"],
)
def test_the_loss_falls(quick: Quick, tmp_path: Path, more: dict[str, object], least: float) -> None:
    """Below that of the untrained base on the same images, noise and levels."""
    settings = {"learning_rate": 5e-3, "max_train_steps": 30, "train_batch_size": 4, **more}
    learned = train(quick(**settings), quiet)
    still = train(quick(**settings | {"learning_rate": 1e-12, "output": tmp_path / "still"}), quiet)
    assert learned[0] == still[0]
    assert np.mean(learned[-15:]) < np.mean(still[-15:]) - least


def test_log_lines(quick: Quick, tmp_path: Path) -> None:
    lines: list[str] = []
    train(quick(max_train_steps=11), lines.append)
    assert [line.split(":")[0] for line in lines] == ["step 10 of 11", "step 11 of 11"]
    made = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (made["steps"], made["pictures"], made["settings"]["num_bins"]) == (11, 22, 16)


def test_epochs_are_counted_in_steps(quick: Quick) -> None:
    assert len(train(quick(max_train_steps=None, num_train_epochs=2, train_batch_size=4), quiet)) == 4


@pytest.mark.slow
def test_two_processes_share_a_batch(quick: Quick, tmp_path: Path, pictures: Path, tiny_sd: Path) -> None:
    """torchrun on the CPU: 2 processes of 2 images make the steps of one process with 4."""
    train(quick(train_batch_size=4, adam_epsilon=1e-3), quiet)
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29513"]
    options = f"--base {tiny_sd} --data {pictures} --output {tmp_path / 'two'} --train_batch_size 2 --max_train_steps 4"
    more = "--learning_rate 1e-3 --adam_epsilon 1e-3 --num_bins 16 --max_length 128 --device cpu"
    command = [*run, "-m", "cloisonne", "train", "reco", *options.split(), *more.split()]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert_close(tmp_path / "out", tmp_path / "two")


@pytest.mark.slow
def test_workers_change_nothing(quick: Quick, tmp_path: Path) -> None:
    train(quick(output=tmp_path / "none"), quiet)
    train(quick(dataloader_num_workers=2), quiet)
    assert_equal(tmp_path / "none", tmp_path / "out")
