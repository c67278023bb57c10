"""LCM and TCD are diffusers' schedulers, with the same injected noise, to the timestep and the level."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from diffusers import LCMScheduler, TCDScheduler
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from cloisonne.core.guidance import Single
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Conditioning, Plan, View
from cloisonne.core.sample import sample
from cloisonne.core.samplers import SAMPLERS, SPREADS, sampler
from cloisonne.core.schedule import Schedule
from cloisonne.errors import SceneError
from cloisonne.models.unet.denoiser import UNetDenoiser

SHAPE = (4, 16, 16)
CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@torch.no_grad()
def of_diffusers(unet: UNet2DConditionModel, scheduler: Any, text: Tensor, **extra: Any) -> Tensor:
    z, generator = Noise([Seed(1)], SHAPE)(), torch.Generator().manual_seed(5)
    for t in scheduler.timesteps:
        z = scheduler.step(unet(z, t, text[None]).sample, t, z, generator=generator, **extra).prev_sample
    return z


def ours(net: UNetDenoiser, name: str, text: Conditioning, schedule: Schedule, count: int, eta: float | None) -> Tensor:
    view = View(name="canvas", net=net, branches={"cond": text}, guide=Single(), weight=torch.ones(16, 16))
    steps = schedule.steps(count, ends_clean=SAMPLERS[name].ends_clean)
    z = Noise([Seed(1)], SHAPE)()
    return sample(Plan(views=(view,)), sampler(name, eta, schedule), z, steps, noise=Noise([Seed(5)], SHAPE))


@pytest.mark.parametrize("count", range(1, 51))
@pytest.mark.parametrize("teacher", [50, 100])
def test_levels_are_those_of_the_distilled_solver(count: int, teacher: int) -> None:
    scheduler = LCMScheduler(**CONFIG, original_inference_steps=teacher)  # type: ignore[arg-type]
    scheduler.set_timesteps(count)
    schedule = Schedule.from_config({**CONFIG, "original_inference_steps": teacher}).spaced("distilled", "closed")
    assert [step.t for step in schedule.steps(count, ends_clean=True)] == scheduler.timesteps.tolist()


def test_more_steps_than_the_distilled_solver_are_refused() -> None:
    with pytest.raises(SceneError, match="allows 1 to 50"):
        Schedule.from_config(CONFIG).spaced("distilled", "closed").steps(51, ends_clean=True)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_lcm_is_diffusers_scheduler(
    count: int,
    prediction: str,
    stock: UNet2DConditionModel,
    nets: Mapping[str, UNetDenoiser],
    words: Callable[..., Tensor],
    say: Callable[..., Conditioning],
) -> None:
    scheduler = LCMScheduler(**CONFIG, prediction_type=prediction)  # type: ignore[arg-type]
    scheduler.set_timesteps(count)
    schedule = Schedule.from_config({**CONFIG, "prediction_type": prediction}).spaced("distilled", SPREADS["lcm"])
    expected = of_diffusers(stock, scheduler, words(1))
    drawn = ours(nets[prediction], "lcm", say(1), schedule, count, None)
    torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_tcd_is_diffusers_scheduler(
    count: int,
    eta: float,
    prediction: str,
    stock: UNet2DConditionModel,
    nets: Mapping[str, UNetDenoiser],
    words: Callable[..., Tensor],
    say: Callable[..., Conditioning],
) -> None:
    scheduler = TCDScheduler(**CONFIG, prediction_type=prediction)  # type: ignore[arg-type]
    scheduler.set_timesteps(count)
    schedule = Schedule.from_config({**CONFIG, "prediction_type": prediction}).spaced("distilled", SPREADS["tcd"])
    expected = of_diffusers(stock, scheduler, words(1), eta=eta)
    drawn = ours(nets[prediction], "tcd", say(1), schedule, count, eta)
    torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=1e-5)


def test_eta_of_tcd_has_its_own_default() -> None:
    schedule = Schedule.from_config(CONFIG)
    assert sampler("tcd", None, schedule) == sampler("tcd", 0.3, schedule) != sampler("tcd", 0.0, schedule)


def test_tcd_with_noise_needs_a_diffusion_schedule() -> None:
    with pytest.raises(SceneError, match="needs the levels of a diffusion schedule"):
        sampler("tcd")
