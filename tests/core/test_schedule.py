"""A scheduler's config means what it means to diffusers, to the timestep and to the last bit of the level."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from diffusers import DDIMScheduler

from cloisonne.core.schedule import Schedule
from cloisonne.errors import CheckpointError, SceneError

STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize(
    "config",
    [
        STABLE_DIFFUSION,
        {**STABLE_DIFFUSION, "rescale_betas_zero_snr": True},
        {"beta_schedule": "linear", "num_train_timesteps": 200},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": [0.01, 0.02, 0.3]},
        {},
    ],
)
def test_levels_are_diffusers(config: dict[str, Any]) -> None:
    schedule = Schedule.from_config(config)
    alphas_cumprod = DDIMScheduler(**config).alphas_cumprod.double()
    assert schedule.alphas == tuple(alphas_cumprod.sqrt().tolist())
    assert schedule.ss == tuple((1 - alphas_cumprod).sqrt().tolist())


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("count", [2, 7, 20, 50, 333])
def test_timesteps_are_diffusers(spacing: str, count: int) -> None:
    config = {**STABLE_DIFFUSION, "timestep_spacing": spacing, "steps_offset": 1}
    scheduler = DDIMScheduler(**config)
    scheduler.set_timesteps(count)
    steps = Schedule.from_config(config).steps(count, ends_clean=True)
    assert [step.t for step in steps] == scheduler.timesteps.tolist()


def test_walk_ends_where_the_config_or_the_sampler_says() -> None:
    schedule = Schedule.from_config({**STABLE_DIFFUSION, "set_alpha_to_one": False})
    last = schedule.steps(20, ends_clean=False)[-1]
    assert (last.alpha_next, last.s_next) == (schedule.alphas[0], schedule.ss[0])
    last = schedule.steps(20, ends_clean=True)[-1]
    assert (last.alpha_next, last.s_next) == (1.0, 0.0)


def test_steps_join_and_fall() -> None:
    steps = Schedule.from_config(STABLE_DIFFUSION).steps(20, ends_clean=True)
    for i, (step, after) in enumerate(pairwise(steps)):
        assert (step.t_next, step.alpha_next, step.s_next) == (after.t, after.alpha, after.s)
        assert after.sigma < step.sigma
        assert (step.index, step.count) == (i, 20)


@pytest.mark.parametrize("strength", [0.0, 0.04, 0.3, 0.55, 1.0])
def test_strength_walks_the_last_steps(strength: float) -> None:
    schedule = Schedule.from_config(STABLE_DIFFUSION)
    whole = schedule.steps(20, ends_clean=True)
    walked = schedule.steps(20, ends_clean=True, strength=strength)
    assert len(walked) == int(20 * strength)
    assert [step.t for step in walked] == [step.t for step in whole[20 - len(walked) :]]
    assert [step.index for step in walked] == list(range(len(walked)))
    assert all(step.count == len(walked) for step in walked)


def test_karras_spacing_spans_the_levels_with_signal() -> None:
    config = {**STABLE_DIFFUSION, "use_karras_sigmas": True, "rescale_betas_zero_snr": True}
    schedule = Schedule.from_config(config)
    steps = schedule.steps(15, ends_clean=True)
    assert schedule.alphas[-1] == 0
    assert steps[0].sigma == pytest.approx(schedule.ss[-2] / schedule.alphas[-2])
    assert steps[-1].sigma == pytest.approx(schedule.ss[0] / schedule.alphas[0])
    roots = [step.sigma ** (1 / 7) for step in steps]
    gaps = [a - b for a, b in pairwise(roots)]
    assert gaps == pytest.approx([gaps[0]] * 14)
    assert all(math.hypot(step.alpha, step.s) == pytest.approx(1) for step in steps)


def test_prediction_and_spacing_come_from_the_config() -> None:
    schedule = Schedule.from_config({"prediction_type": "v_prediction", "timestep_spacing": "trailing"})
    assert (schedule.prediction, schedule.spacing) == ("v_prediction", "trailing")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"prediction_type": "flow_prediction"}, 'prediction_type "flow_prediction"; supported are epsilon'),
        ({"timestep_spacing": "even"}, 'timestep_spacing "even"; supported are leading'),
        ({"beta_schedule": "sigmoid"}, 'beta_schedule "sigmoid"; supported are linear'),
    ],
)
def test_unknown_config_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Schedule.from_config(config)


def test_epsilon_at_zero_terminal_snr_is_refused() -> None:
    config = {**STABLE_DIFFUSION, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    with pytest.raises(CheckpointError, match="says nothing about the picture"):
        Schedule.from_config(config).steps(20, ends_clean=True)


@pytest.mark.parametrize(("count", "strength"), [(0, 1.0), (-3, 1.0), (1001, 1.0), (20, 1.5), (20, -0.1)])
def test_impossible_walks_are_refused(count: int, strength: float) -> None:
    with pytest.raises(SceneError, match=r"steps were asked for|strength is"):
        Schedule.from_config(STABLE_DIFFUSION).steps(count, ends_clean=True, strength=strength)


def test_karras_spacing_of_a_flow_is_refused() -> None:
    levels = [i / 10 for i in range(1, 11)]
    flow = Schedule(alphas=tuple(1 - s for s in levels), ss=tuple(levels), spacing="karras", prediction="sample")
    with pytest.raises(SceneError, match="is a flow"):
        flow.steps(5, ends_clean=True)


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace", "karras"])
def test_trained_levels_are_all_whatever_the_spacing(spacing: Any, offset: int) -> None:
    schedule = replace(Schedule.from_config(STABLE_DIFFUSION), spacing=spacing, offset=offset)
    levels = schedule.trained()
    assert [step.t for step in levels] == list(reversed(range(1000)))
    assert [step.alpha for step in levels] == list(reversed(schedule.alphas))


def test_an_offset_that_leaves_the_levels_is_refused() -> None:
    schedule = replace(Schedule.from_config(STABLE_DIFFUSION), offset=5)
    with pytest.raises(SceneError, match="250 steps begin at level 1001 with the checkpoint's steps_offset of 5"):
        schedule.steps(250, ends_clean=True)
