"""Noising, what a network should answer, and the clean latents that an answer stands for belong together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from cloisonne.core.parameterization import Parameterization
from cloisonne.models.load import load
from cloisonne.train.engine.diffusion import Diffusion

PREDICTIONS: tuple[Parameterization, ...] = ("epsilon", "v_prediction", "sample")


def diffusion(folder: Path, prediction: Parameterization) -> Diffusion:
    model = load(folder)
    return Diffusion(replace(model, schedule=replace(model.schedule, prediction=prediction)), torch.device("cpu"))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_right_answer_stands_for_the_clean_latents(tiny_sd: Path, prediction: Parameterization) -> None:
    made = diffusion(tiny_sd, prediction)
    z0, noise = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8)
    t = torch.tensor([0, 300, 700, 999])
    z = made.noised(z0, noise, t)
    estimate = made.clean(made.target(z0, noise, t), z, t)
    torch.testing.assert_close(estimate, z0, atol=2e-5, rtol=0)
    wrong = made.clean(made.target(z0, noise, t) + 1, z, t)
    assert ((wrong - z0).abs().amax((1, 2, 3)) > 1e-2).all()


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_noise_targets_and_estimates_are_diffusers(tiny_sd: Path, prediction: Parameterization) -> None:
    made = diffusion(tiny_sd, prediction)
    theirs: Any = DDIMScheduler.from_pretrained(tiny_sd / "scheduler", prediction_type=prediction)
    z0, noise, output = (torch.randn(2, 4, 8, 8) for _ in range(3))
    t = torch.tensor([20, 900])
    z = made.noised(z0, noise, t)
    torch.testing.assert_close(z, theirs.add_noise(z0, noise, t), atol=1e-5, rtol=0)
    if prediction == "v_prediction":
        velocity = theirs.get_velocity(z0, noise, t)
        torch.testing.assert_close(made.target(z0, noise, t), velocity, atol=1e-5, rtol=0)
    theirs.set_timesteps(1000)
    for k in range(2):
        expected = theirs.step(output[k : k + 1], int(t[k]), z[k : k + 1]).pred_original_sample
        ours = made.clean(output[k : k + 1], z[k : k + 1], t[k : k + 1])
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-5)
