"""A run of an adapter goes on where it stopped to the last bit, learns, and writes what ours and diffusers load."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import T2IAdapter
from PIL import Image
from trained import assert_close, assert_equal, quiet

import cloisonne
from cloisonne.errors import CheckpointError, CloisonneError, TrainingError
from cloisonne.train.control.settings import MASKS, Settings
from cloisonne.train.control.task import train

Quick = Callable[..., Settings]


@pytest.mark.parametrize(
    "more",
    [{}, {"kind": "color", "masked": "map", "x0_loss": "laplacian", "normalize_by_area": True, "use_ema": True}],
    ids=["plain", "color-map-laplacian-area-ema"],
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


def test_seed_0_is_a_seed(quick: Quick, tmp_path: Path) -> None:
    losses = [
        train(quick(output=tmp_path / str(k), seed=seed, max_train_steps=2), quiet) for k, seed in enumerate((0, 0, 1))
    ]
    assert losses[0] == losses[1] != losses[2]
    assert_equal(tmp_path / "0", tmp_path / "1")


@pytest.mark.parametrize("mask", MASKS)
def test_every_kind_of_mask_trains(quick: Quick, mask: str) -> None:
    losses = train(quick(mask=mask, max_train_steps=2), quiet)
    assert len(losses) == 2
    assert np.isfinite(losses).all()


def test_a_base_that_predicts_v_trains_on_the_world_and_draws(quick: Quick, tmp_path: Path, tiny_family: Path) -> None:
    losses = train(quick(base=str(tiny_family), data="world", max_train_steps=2), quiet)
    assert np.isfinite(losses).all()
    assert cloisonne.load(tiny_family, adapters={"canny": tmp_path / "out"}).schedule.prediction == "v_prediction"


def test_the_output_is_an_adapter_that_draws_inside_of_its_region(quick: Quick, tmp_path: Path, tiny_sd: Path) -> None:
    train(quick(learning_rate=1e-2), quiet)
    output = tmp_path / "out"
    names = ["checkpoint-4", "config.json", "diffusion_pytorch_model.safetensors", "training.json"]
    assert sorted(entry.name for entry in output.iterdir()) == names
    made = json.loads((output / "training.json").read_text())
    assert (made["kind"], made["steps"], made["pictures"]) == ("canny", 4, 8)
    model = cloisonne.load(tiny_sd, adapters={"canny": output})
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    region = cloisonne.Region(name="wall", box=(0.0, 0.0, 0.5, 1.0), control={"kind": "canny", "from": photo})
    scene = cloisonne.Scene(caption="a red cat", seed=0, steps=2, regions=[region])
    controlled, free = (cloisonne.generate(s, model).latents for s in (scene, scene.replace(regions=[])))
    assert controlled.isfinite().all()
    assert not torch.allclose(controlled, free, atol=1e-4)


def test_an_adapter_of_colours_draws(quick: Quick, tmp_path: Path, tiny_sd: Path) -> None:
    train(quick(kind="color", max_train_steps=1), quiet)
    model = cloisonne.load(tiny_sd, adapters={"color": tmp_path / "out"})
    assert model.adapters["color"].channels == 3
    photo = Image.new("RGB", (64, 64), (255, 0, 0))
    region = cloisonne.Region(name="wall", box=(0.0, 0.0, 1.0, 1.0), control={"kind": "color", "from": photo})
    scene = cloisonne.Scene(caption="a red cat", seed=0, steps=2, regions=[region])
    assert cloisonne.generate(scene, model).images[0].size == (64, 64)


def test_stock_diffusers_reads_it_and_gives_the_same_features(quick: Quick, tmp_path: Path, tiny_sd: Path) -> None:
    train(quick(max_train_steps=1), quiet)
    theirs = T2IAdapter.from_pretrained(tmp_path / "out", low_cpu_mem_usage=False).eval()
    ours = cloisonne.load(tiny_sd, adapters={"canny": tmp_path / "out"}).adapters["canny"]
    edges = (np.random.default_rng(0).random((64, 64)) > 0.7).astype(np.uint8) * 255
    with torch.no_grad():
        expected = theirs(torch.from_numpy(edges)[None, None].float() / 255)
    for level, other in zip(ours.features(edges), expected, strict=True):
        torch.testing.assert_close(level, other[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("changes", "error", "about"),
    [
        ({"kind": "depth"}, TrainingError, '--kind is "depth"'),
        ({"mask": "box"}, TrainingError, '--mask is "box"'),
        ({"masked": "latents"}, TrainingError, '--masked is "latents"'),
        ({"x0_loss": "prewitt"}, TrainingError, '--x0_loss is "prewitt"'),
        ({"x0_schedule": "linear"}, TrainingError, '--x0_schedule is "linear"'),
        ({"timesteps": "square"}, TrainingError, '--timesteps is "square"'),
        ({"x0_weight": -1.0}, TrainingError, "--x0_weight is -1.0"),
        ({"x0_weight": float("nan")}, TrainingError, "--x0_weight is nan"),
        ({"num_res_blocks": 0}, TrainingError, "--num_res_blocks is 0"),
        ({"proportion_empty_prompts": 1.5}, TrainingError, "--proportion_empty_prompts is 1.5"),
        ({"base": "nowhere"}, CheckpointError, "nowhere"),
        ({"resolution": 100}, TrainingError, "multiple of 16"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(
    quick: Quick, changes: dict[str, object], error: type[CloisonneError], about: str
) -> None:
    with pytest.raises(error, match=about) as raised:
        train(quick(**changes), quiet)
    assert "\n" not in str(raised.value)


def test_stable_diffusion_xl_is_refused(quick: Quick, tiny_xl: Path) -> None:
    with pytest.raises(TrainingError, match="XL"):
        train(quick(base=str(tiny_xl)), quiet)


def test_a_run_of_another_kind_is_not_continued(quick: Quick) -> None:
    train(quick(max_train_steps=1), quiet)
    with pytest.raises(CheckpointError, match="kind canny"):
        train(quick(resume_from_checkpoint="latest", kind="sobel"), quiet)
