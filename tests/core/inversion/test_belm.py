"""O-BELM: its formula, its order, and that sampling restores what was inverted."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from cloisonne.core.flow_schedule import FlowSchedule
from cloisonne.core.guidance import Cfg
from cloisonne.core.inversion.belm import Belm, invert_by_belm
from cloisonne.core.inversion.ddim import invert
from cloisonne.core.plan import Plan, Step
from cloisonne.core.run import Run
from cloisonne.core.sample import sample
from cloisonne.core.samplers import Ddim
from cloisonne.core.schedule import Schedule
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.denoiser import UNetDenoiser

Make = Callable[..., Any]
SCHEDULES: dict[str, tuple[Step, ...]] = {
    "flow": FlowSchedule(shift=3.0).steps(8),
    "part of a flow": FlowSchedule(shift=3.0).steps(8)[3:],
    "even flow": FlowSchedule().steps(8),
    "epsilon": Schedule.from_config({"prediction_type": "epsilon"}).steps(8, ends_clean=False),
    "v_prediction": Schedule.from_config({"prediction_type": "v_prediction"}).steps(8, ends_clean=True),
}


def nothing() -> Tensor:
    return torch.zeros(0)


@pytest.fixture
def canvas() -> Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def plan_of(view: Make, say: Make, nets: Mapping[str, UNetDenoiser]) -> Callable[..., Plan]:
    """plan_of(schedule, scale, *streams): the same words on each stream."""
    unet = nets["epsilon"].unet
    flow = UNetDenoiser(unet, NetSpec.from_unet(unet.config, latent="tiny", vae_factor=8, prediction="flow"))

    def make(name: str, scale: float = 3.0, *streams: str) -> Plan:
        net = nets.get(name, flow)
        names = streams or ("image",)
        return Plan(views=tuple(view("canvas", say(1), say(0), Cfg(scale=scale), net=net, stream=own) for own in names))

    return make


@pytest.mark.parametrize(("name", "scale"), [("flow", 1.0), *((name, 3.0) for name in SCHEDULES)])
def test_sampling_restores_the_inverted_canvas(plan_of: Make, canvas: Tensor, name: str, scale: float) -> None:
    plan, steps, run = plan_of(name, scale), SCHEDULES[name], Run()
    found = invert_by_belm(plan, canvas, steps, run=run)
    assert run.forwards == len(steps)
    assert torch.equal(found.path[-1], canvas)
    back = sample(plan, found.sampler, found.noise, steps, noise=nothing)
    torch.testing.assert_close(back, canvas, atol=1e-5, rtol=0)
    approximate = invert(plan, canvas, steps)
    ddim = sample(plan, Ddim(), approximate.noise, steps, noise=nothing)
    assert float((ddim - canvas).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["flow"])
def test_another_canvas_under_the_same_plan_is_restored_too(plan_of: Make, canvas: Tensor, name: str) -> None:
    """The correction of the first step is the source's, so that equal rows stay equal."""
    found = invert_by_belm(plan_of(name, 3.0), canvas, SCHEDULES[name])
    both = plan_of(name, 3.0, "a", "b")
    for place in (0, 1):
        assert isinstance(found.sampler, Belm)
        sampler = Belm(ends=found.sampler.ends, place=place)
        z = sample(both, sampler, found.noise.repeat(2, 1, 1, 1), SCHEDULES[name], noise=nothing)
        torch.testing.assert_close(z, canvas.repeat(2, 1, 1, 1), atol=1e-4, rtol=0)


def test_a_canvas_that_is_quadratic_in_the_level_is_met_exactly() -> None:
    """``y = a + b t + c t^2`` from two of its canvases, at levels of different lengths."""
    a, b, c = torch.randn(3, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    steps = SCHEDULES["flow"]

    def canvas(t: float) -> Tensor:
        return a + b * t + c * t**2

    def denoise(z: Tensor, step: Step) -> Tensor:
        return canvas(step.s) - step.s * (b + 2 * c * step.s)

    sampler = Belm(ends=(canvas(steps[0].s), canvas(steps[1].s)))
    z, state = canvas(steps[0].s), None
    for step in steps:
        z, state = sampler.step(denoise, z, step, state, nothing)
        torch.testing.assert_close(z, canvas(step.s_next), atol=1e-12, rtol=0)


def test_it_converges_faster_than_ddim() -> None:
    """On a curved path, from its noise: twice the steps leave less than a third of the error."""

    def denoise(z: Tensor, step: Step) -> Tensor:
        return torch.tanh(2 * z) / (1 + step.s)

    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).double()

    def end(sampler: Any, count: int) -> Tensor:
        now, state = z, sampler.init(z)
        for step in FlowSchedule().steps(count):
            now, state = sampler.step(denoise, now, step, state, nothing)
        return now

    exact = end(Ddim(), 1000)
    errors = [float((end(Belm(), count) - exact).abs().mean()) for count in (10, 20, 40)]
    assert errors[2] < errors[1] / 2 < errors[0] / 4
    assert errors[2] < float((end(Ddim(), 40) - exact).abs().mean())
