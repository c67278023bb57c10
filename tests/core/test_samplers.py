"""The samplers are diffusers' schedulers in other coordinates, and stay finite where those cannot go."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from cloisonne.core.guidance import Single
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Conditioning, Plan, Step, View
from cloisonne.core.sample import sample
from cloisonne.core.samplers import SAMPLERS, SPREADS, Ddim, sampler
from cloisonne.core.schedule import Schedule
from cloisonne.errors import SceneError
from cloisonne.models.unet.denoiser import UNetDenoiser

SHAPE = (4, 16, 16)
CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
ORACLES: dict[str, Any] = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler-ancestral": EulerAncestralDiscreteScheduler,
    "heun": HeunDiscreteScheduler,
    "dpmpp-2m": DPMSolverMultistepScheduler,
    "pndm": PNDMScheduler,
}
OWN_FIELDS: dict[str, dict[str, Any]] = {
    "ddim": {"set_alpha_to_one": False, "clip_sample": False},
    "pndm": {"set_alpha_to_one": False, "skip_prk_steps": True},
}
COUNT = 20


def start() -> Tensor:
    return Noise([Seed(1)], SHAPE)()


def draws_noise(name: str) -> bool:
    """Whether the sampler draws noise in its first step."""
    drawn: list[Tensor] = []

    def noise() -> Tensor:
        drawn.append(torch.zeros(1, 1, 1, 1))
        return drawn[-1]

    z = torch.ones(1, 1, 1, 1)
    (step, *_) = Schedule.from_config(CONFIG).steps(COUNT, ends_clean=True)
    SAMPLERS[name].step(lambda z, step: z, z, step, SAMPLERS[name].init(z), noise)
    return bool(drawn)


STOCHASTIC = {name for name in SAMPLERS if draws_noise(name)}


@torch.no_grad()
def walk(unet: UNet2DConditionModel, scheduler: Any, text: Tensor, **extra: Any) -> Tensor:
    """diffusers' own loop. Schedulers with sigmas walk in z / alpha, the others in z."""
    preserves_variance = isinstance(scheduler, DDIMScheduler | DPMSolverMultistepScheduler | PNDMScheduler)
    x = start() if preserves_variance else start() * (scheduler.sigmas[0] ** 2 + 1).sqrt()
    for t in scheduler.timesteps:
        output = unet(scheduler.scale_model_input(x, t), t, text[None]).sample
        x = scheduler.step(output, t, x, **extra).prev_sample
    return x


def ours(net: UNetDenoiser, name: str, text: Conditioning, steps: Sequence[Step], eta: float = 0.0) -> Tensor:
    view = View(name="canvas", net=net, branches={"cond": text}, guide=Single(), weight=torch.ones(16, 16))
    return sample(Plan(views=(view,)), sampler(name, eta), start(), steps, noise=Noise([Seed(5)], SHAPE))


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_sampler_is_diffusers_scheduler(
    name: str,
    prediction: str,
    spacing: str,
    stock: UNet2DConditionModel,
    nets: Mapping[str, UNetDenoiser],
    words: Callable[..., Tensor],
    say: Callable[..., Conditioning],
) -> None:
    if name == "pndm" and (prediction, spacing) != ("epsilon", "leading"):
        pytest.skip("diffusers sums up v at different levels there, or steps over other gaps than those of its levels")
    config = {**CONFIG, **OWN_FIELDS.get(name, {}), "prediction_type": prediction, "timestep_spacing": spacing}
    scheduler = ORACLES[name](**config)
    steps = Schedule.from_config(config).steps(COUNT, ends_clean=SAMPLERS[name].ends_clean)
    if SPREADS[name] == "open" and spacing == "leading":
        # These of diffusers' schedulers spread n steps over n + 1 intervals.
        scheduler.set_timesteps(timesteps=[int(step.t) for step in steps])
    else:
        scheduler.set_timesteps(COUNT)
    extra = {"generator": torch.Generator().manual_seed(5)} if name in STOCHASTIC else {}
    expected = walk(stock, scheduler, words(1), **extra)
    torch.testing.assert_close(ours(nets[prediction], name, say(1), steps), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("count", [1, 4, 20, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", ORACLES)
def test_levels_of_a_spacing_are_those_of_the_same_scheduler(name: str, spacing: Any, count: int, offset: int) -> None:
    if (count, spacing) == (1, "linspace") and SPREADS[name] != "open":
        pytest.skip("diffusers takes the level 0 alone there, from which no picture comes")
    config = {**CONFIG, **OWN_FIELDS.get(name, {}), "timestep_spacing": spacing, "steps_offset": offset}
    scheduler = ORACLES[name](**config)
    scheduler.set_timesteps(count)
    schedule = replace(Schedule.from_config(config), spread=SPREADS[name])
    steps = schedule.steps(count, ends_clean=SAMPLERS[name].ends_clean)
    # Those that ask twice in a step name the levels twice.
    assert [step.t for step in steps] == pytest.approx(list(dict.fromkeys(scheduler.timesteps.tolist())), rel=1e-6)
    if hasattr(scheduler, "sigmas"):
        sigmas = list(dict.fromkeys(scheduler.sigmas[:-1].tolist()))
        assert [step.sigma for step in steps] == pytest.approx(sigmas, rel=1e-5)


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp-2m"])
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_pictures_of_a_spacing_are_those_of_the_same_scheduler(
    name: str,
    spacing: str,
    stock: UNet2DConditionModel,
    nets: Mapping[str, UNetDenoiser],
    words: Callable[..., Tensor],
    say: Callable[..., Conditioning],
) -> None:
    config = {**CONFIG, "timestep_spacing": spacing}
    scheduler = ORACLES[name](**config)
    scheduler.set_timesteps(COUNT)
    expected = walk(stock, scheduler, words(1))
    steps = replace(Schedule.from_config(config), spread=SPREADS[name]).steps(COUNT, ends_clean=True)
    torch.testing.assert_close(ours(nets["epsilon"], name, say(1), steps), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 20])
def test_pndm_of_few_steps_is_diffusers(
    count: int,
    stock: UNet2DConditionModel,
    nets: Mapping[str, UNetDenoiser],
    words: Callable[..., Tensor],
    say: Callable[..., Conditioning],
) -> None:
    config = {**CONFIG, **OWN_FIELDS["pndm"]}
    scheduler = PNDMScheduler(**config)
    scheduler.set_timesteps(count)
    expected = walk(stock, scheduler, words(1))
    steps = Schedule.from_config(config).steps(count, ends_clean=False)
    torch.testing.assert_close(ours(nets["epsilon"], "pndm", say(1), steps), expected, atol=1e-4, rtol=0)


def test_dpmpp_2m_with_karras_spacing_is_diffusers(
    stock: UNet2DConditionModel,
    nets: Mapping[str, UNetDenoiser],
    words: Callable[..., Tensor],
    say: Callable[..., Conditioning],
) -> None:
    config = {**CONFIG, "use_karras_sigmas": True}
    scheduler = DPMSolverMultistepScheduler(**config)
    scheduler.set_timesteps(COUNT)
    steps = Schedule.from_config(config).steps(COUNT, ends_clean=True)
    assert [step.t for step in steps] == scheduler.timesteps.tolist()
    expected = walk(stock, scheduler, words(1))
    torch.testing.assert_close(ours(nets["epsilon"], "dpmpp-2m", say(1), steps), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_eta_is_diffusers(
    eta: float,
    stock: UNet2DConditionModel,
    nets: Mapping[str, UNetDenoiser],
    words: Callable[..., Tensor],
    say: Callable[..., Conditioning],
) -> None:
    config = {**CONFIG, **OWN_FIELDS["ddim"]}
    scheduler = DDIMScheduler(**config)
    scheduler.set_timesteps(COUNT)
    expected = walk(stock, scheduler, words(1), eta=eta, generator=torch.Generator().manual_seed(5))
    steps = Schedule.from_config(config).steps(COUNT, ends_clean=False)
    torch.testing.assert_close(ours(nets["epsilon"], "ddim", say(1), steps, eta), expected, atol=1e-4, rtol=0)


ZERO_SNR = {**CONFIG, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}


def test_ddim_at_zero_terminal_snr_is_diffusers(
    stock: UNet2DConditionModel,
    nets: Mapping[str, UNetDenoiser],
    words: Callable[..., Tensor],
    say: Callable[..., Conditioning],
) -> None:
    config = {**ZERO_SNR, **OWN_FIELDS["ddim"]}
    scheduler = DDIMScheduler(**config)
    scheduler.set_timesteps(COUNT)
    steps = Schedule.from_config(config).steps(COUNT, ends_clean=False)
    assert steps[0].alpha == 0
    expected = walk(stock, scheduler, words(1))
    torch.testing.assert_close(ours(nets["v_prediction"], "ddim", say(1), steps), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ORACLES)
def test_first_step_at_zero_terminal_snr_is_ddim(
    name: str, nets: Mapping[str, UNetDenoiser], say: Callable[..., Conditioning]
) -> None:
    steps = Schedule.from_config(ZERO_SNR).steps(COUNT, ends_clean=True)
    if name not in STOCHASTIC:
        first = [ours(nets["v_prediction"], n, say(1), steps[:1]) for n in ("ddim", name)]
        torch.testing.assert_close(first[1], first[0], atol=1e-5, rtol=0)
    assert ours(nets["v_prediction"], name, say(1), steps).isfinite().all()


FLOW = Schedule(
    alphas=tuple(1 - i / 1000 for i in range(1, 1001)),
    ss=tuple(i / 1000 for i in range(1, 1001)),
    spacing="trailing",
    prediction="sample",
)
FLOW_STEPS = FLOW.steps(COUNT, ends_clean=True)


def mean_of_gaussian(z: Tensor, step: Step) -> Tensor:
    """The exact estimate where x0 is Gaussian of mean 2, deviation 0.5."""
    total = (0.5 * step.alpha) ** 2 + step.s**2
    return 2 + 0.25 * step.alpha / total * (z - 2 * step.alpha)


def test_euler_on_a_flow_schedule_is_diffusers() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[step.s for step in FLOW_STEPS])
    z = x = start()
    for step, t in zip(FLOW_STEPS, torch.as_tensor(scheduler.timesteps), strict=True):
        velocity = (x - mean_of_gaussian(x, step)) / step.s
        x = scheduler.step(velocity, t, x).prev_sample  # type: ignore[union-attr]
        z, _ = SAMPLERS["euler"].step(mean_of_gaussian, z, step, None, start)
    torch.testing.assert_close(z, x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("steps", [FLOW.steps(500, ends_clean=True), None], ids=["flow", "variance preserving"])
def test_sampler_reaches_the_distribution_from_alpha_zero(name: str, steps: Sequence[Step] | None) -> None:
    """Along the exact flow of a Gaussian, z keeps its place: x0 = 2 + 0.5 n. Noise keeps the distribution."""
    steps = steps or Schedule.from_config(ZERO_SNR).steps(500, ends_clean=True)
    noise = Noise([Seed(9)], (1, 64, 64))
    z = n = noise()
    state = SAMPLERS[name].init(z)
    for step in steps:
        z, state = SAMPLERS[name].step(mean_of_gaussian, z, step, state, noise)
    assert z.mean().item() == pytest.approx(2, abs=0.05)
    assert z.std().item() == pytest.approx(0.5, abs=0.03)
    if name not in STOCHASTIC:
        torch.testing.assert_close(z, 2 + 0.5 * n, atol=0.05, rtol=0)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("dpmpp-2m", 2)])
def test_order_of_convergence(name: str, order: int) -> None:
    """Halving the step divides the error by 2 to the order; a walk inside of the levels, without the clean end."""

    def error(count: int) -> float:
        levels = [(1 - s, s) for s in torch.linspace(0.9, 0.3, count + 1, dtype=torch.float64).tolist()]
        z = n = start().double()
        a, s = levels[0]
        z = 2 * a + (0.25 * a**2 + s**2) ** 0.5 * n
        state = SAMPLERS[name].init(z)
        for i in range(count):
            (a, s), (a_next, s_next) = levels[i : i + 2]
            step = Step(index=i, count=count, t=s, alpha=a, s=s, t_next=s_next, alpha_next=a_next, s_next=s_next)
            z, state = SAMPLERS[name].step(mean_of_gaussian, z, step, state, start)
        a, s = levels[-1]
        return (z - (2 * a + (0.25 * a**2 + s**2) ** 0.5 * n)).abs().max().item()

    assert error(40) / error(80) == pytest.approx(2**order, rel=0.15)


def test_unknown_sampler_lists_the_known() -> None:
    with pytest.raises(SceneError, match=r'no sampler "plms".*ddim, euler'):
        sampler("plms")


@pytest.mark.parametrize(("name", "eta"), [("heun", 0.5), ("euler", 1.0), ("ddim", 1.5), ("ddim", float("nan"))])
def test_eta_is_refused_where_it_means_nothing(name: str, eta: float) -> None:
    with pytest.raises(SceneError, match="eta is"):
        sampler(name, eta)


def test_eta_reaches_ddim() -> None:
    assert sampler("ddim", 0.25) == Ddim(eta=0.25)
