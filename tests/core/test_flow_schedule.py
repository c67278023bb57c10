"""Flow schedules equal diffusers' FlowMatchEulerDiscreteScheduler, and its step is DDIM's on their levels."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from cloisonne.core.flow_schedule import REFUSED, FlowSchedule
from cloisonne.core.parameterization import from_x0, to_x0
from cloisonne.core.samplers import Ddim
from cloisonne.errors import CheckpointError, SceneError

FLUX = {"use_dynamic_shifting": True, "shift": 3.0}
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sd3": {"shift": 3.0},
    "flux": FLUX,
    "linear": FLUX | {"time_shift_type": "linear"},
    "terminal": FLUX | {"shift_terminal": 0.02},
    "other ends": FLUX | {"base_shift": 0.6, "max_shift": 0.9, "max_image_seq_len": 8192},
}


def theirs(config: dict[str, Any], count: int, tokens: int, evenly: str) -> FlowMatchEulerDiscreteScheduler:
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    own = scheduler.config
    lengths = (own["base_image_seq_len"], own["max_image_seq_len"], own["base_shift"], own["max_shift"])
    mu = calculate_shift(tokens, *lengths) if own["use_dynamic_shifting"] else None
    sigmas = np.linspace(1.0, 1 / count, count).tolist() if evenly == "steps" else None
    scheduler.set_timesteps(count, sigmas=sigmas, mu=mu)
    return scheduler


@pytest.mark.parametrize("evenly", ["steps", "range"])
@pytest.mark.parametrize("tokens", [64, 4096])
@pytest.mark.parametrize("count", [1, 4, 28])
@pytest.mark.parametrize("name", CONFIGS)
def test_levels_are_those_of_diffusers(name: str, count: int, tokens: int, evenly: Any) -> None:
    if name == "terminal" and count == 1:
        pytest.skip("diffusers divides by zero there")
    scheduler = theirs(CONFIGS[name], count, tokens, evenly)
    steps = FlowSchedule.from_config(CONFIGS[name], evenly=evenly).steps(count, num_tokens=tokens)
    levels = [step.s for step in steps] + [steps[-1].s_next]
    np.testing.assert_allclose(levels, scheduler.sigmas.numpy(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose([step.t for step in steps], scheduler.timesteps.numpy(), rtol=1e-6)
    assert all(step.alpha == 1 - step.s for step in steps)


@pytest.mark.parametrize("name", CONFIGS)
def test_ddim_steps_as_their_euler(name: str) -> None:
    scheduler = theirs(CONFIGS[name], 5, 512, "steps")
    steps = FlowSchedule.from_config(CONFIGS[name], evenly="steps").steps(5, num_tokens=512)
    z = ours = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for step, t in zip(steps, scheduler.timesteps, strict=True):
        velocity = torch.sin(3 * z + float(t) / 1000)
        z = scheduler.step(velocity, t, z).prev_sample
        own = torch.sin(3 * ours + step.s)
        x0 = ours - step.s * own
        ours, _ = Ddim().step(lambda z, step, x0=x0: x0, ours, step, None, torch.Tensor)
    torch.testing.assert_close(ours, z, rtol=1e-4, atol=1e-5)


def test_strength_takes_the_last_steps() -> None:
    schedule = FlowSchedule.from_config(FLUX)
    whole, part = (schedule.steps(10, num_tokens=256, strength=strength) for strength in (1.0, 0.45))
    assert [step.s for step in part] == [step.s for step in whole[6:]]
    assert part[0].count == 4


@pytest.mark.parametrize("key", REFUSED)
def test_what_is_not_honoured_is_refused(key: str) -> None:
    with pytest.raises(CheckpointError, match=key):
        FlowSchedule.from_config({key: True})


@pytest.mark.parametrize("count", [0, 1001])
def test_counts_out_of_range(count: int) -> None:
    with pytest.raises(SceneError, match="steps"):
        FlowSchedule().steps(count, num_tokens=1)


@pytest.mark.parametrize("level", [0.0, 0.1, 0.5, 0.9])
def test_flow_is_a_parameterization(level: float) -> None:
    """z = (1 - s) x0 + s n and the output n - x0 give x0 back."""
    x0, n = torch.randn(2, 3, 4, 4).double()
    step = FlowSchedule().trained()[int(level * 1000)]
    z = step.alpha * x0 + step.s * n
    torch.testing.assert_close(to_x0(n - x0, z, step, "flow"), x0)
    torch.testing.assert_close(from_x0(x0, z, step, "flow"), n - x0)


def test_trained_levels_are_even() -> None:
    steps = FlowSchedule(num_levels=10, shift=3.0).trained()
    assert [step.s for step in steps] == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert steps[-1].s_next == 0


def test_a_flow_has_no_other_spacing() -> None:
    with pytest.raises(SceneError, match="spacing"):
        FlowSchedule().spaced("karras", "closed")


@pytest.mark.parametrize("tokens", [64, 4096, 4300, 4301, 16384])
@pytest.mark.parametrize("count", [1, 4, 50, 200])
def test_the_fit_of_flux2_is_that_of_diffusers(tokens: int, count: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(**FLUX)
    mu = compute_empirical_mu(tokens, count)
    scheduler.set_timesteps(count, sigmas=np.linspace(1.0, 1 / count, count).tolist(), mu=mu)
    schedule = FlowSchedule.from_config(FLUX, evenly="steps", measured="tokens and steps")
    assert schedule.mu(tokens, count) == pytest.approx(mu, rel=1e-12)
    levels = [step.s for step in schedule.steps(count, num_tokens=tokens)]
    np.testing.assert_allclose(levels, scheduler.sigmas.numpy()[:-1], rtol=1e-6, atol=1e-7)
