"""Walks up to noise, and whether the walk down ends where they began."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from cloisonne.core.guidance import Cfg
from cloisonne.core.inversion.belm import lattice
from cloisonne.core.inversion.ddim import INVERSION_METHODS, Retrace, invert
from cloisonne.core.inversion.null_text import fit_null, negative_prompt_inversion
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan, Step, View
from cloisonne.core.predict import Run
from cloisonne.core.sample import sample
from cloisonne.core.samplers import Ddim
from cloisonne.core.schedule import Schedule
from cloisonne.errors import Cancelled, SceneError
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.denoiser import UNetDenoiser

Make = Callable[..., Any]


@pytest.fixture
def canvas() -> Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(4))


@pytest.fixture
def regional(view: Make, say: Make, left: Tensor) -> Callable[[float], Plan]:
    """Words for each half of the canvas, guided by so much."""

    def make(scale: float) -> Plan:
        told = say(1, mask=left) + say(2, mask=1 - left)
        return Plan(views=(view("canvas", told, say(0), guide=Cfg(scale=scale)),))

    return make


def down(plan: Plan, found: Any, steps: tuple[Step, ...], run: Run | None = None) -> Tensor:
    return sample(plan, found.sampler, found.noise, steps, noise=lambda: torch.zeros(0), run=run)


def steps_of(schedule: Schedule, count: int) -> tuple[Step, ...]:
    return schedule.steps(count, ends_clean=False)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [10, 20])
@pytest.mark.parametrize("scale", [1.0, 3.0, 7.5])
def test_the_lattice_retraces_to_the_last_bit(
    threads: int, scale: float, count: int, regional: Make, canvas: Tensor, schedule: Schedule
) -> None:
    steps, plan = steps_of(schedule, count), regional(scale)
    found = invert(plan, canvas, steps, "lattice")
    seen: list[Tensor] = []
    run = Run()
    back = sample(
        plan,
        found.sampler,
        found.noise,
        steps,
        noise=lambda: torch.zeros(0),
        watch=lambda step, z, x0: seen.append(z),
        run=run,
    )
    assert [torch.equal(a, b) for a, b in zip(seen, found.path[1:], strict=True)] == [True] * count
    torch.testing.assert_close(back, canvas, atol=1e-6, rtol=1e-6)
    assert (found.run.forwards, run.forwards) == (count, count - 1)


def test_the_lattice_retraces_a_network_in_half_precision(
    stock: UNet2DConditionModel, say: Make, view: Make, canvas: Tensor, schedule: Schedule
) -> None:
    copied: Any = copy.deepcopy(stock)
    unet = copied.to(torch.bfloat16)
    net = UNetDenoiser(unet, NetSpec.from_unet(unet.config, latent="tiny", vae_factor=8, prediction="v_prediction"))
    plan = Plan(views=(view("canvas", say(1), say(0), net=net),))
    steps = steps_of(schedule, 20)
    found = invert(plan, canvas, steps, "lattice")
    torch.testing.assert_close(down(plan, found, steps), canvas, atol=1e-6, rtol=1e-6)


def test_several_canvases_go_up_and_down_together(regional: Make, schedule: Schedule) -> None:
    plan = regional(3.0).in_scene("a") + regional(3.0).in_scene("b")
    z = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    steps = steps_of(schedule, 10)
    found = invert(plan, z, steps, "lattice")
    torch.testing.assert_close(down(plan, found, steps), z, atol=1e-6, rtol=1e-6)
    assert not torch.equal(found.noise[0], found.noise[1])


def test_the_lattice_is_nearer_to_the_flow_than_ddim(plain: Plan, schedule: Schedule) -> None:
    z = Noise([Seed(1)], (4, 16, 16))()
    fine = steps_of(schedule, 500)
    # Both of the coarse walks begin at the fine one's first level.
    coarse = [step for step in fine if step.index % 25 == 0]
    ends = [*coarse[1:], None]
    steps = tuple(
        replace(
            step,
            index=k,
            count=len(coarse),
            t_next=fine[-1].t_next if end is None else end.t,
            alpha_next=fine[-1].alpha_next if end is None else end.alpha,
            s_next=fine[-1].s_next if end is None else end.s,
        )
        for k, (step, end) in enumerate(zip(coarse, ends, strict=True))
    )

    def walked(solver: Any, steps: tuple[Step, ...]) -> Tensor:
        return sample(plain, solver, z, steps, noise=lambda: torch.zeros(0))

    true = walked(Ddim(), fine)
    errors = [float((walked(solver, steps) - true).square().mean().sqrt()) for solver in (lattice(steps), Ddim())]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("way", INVERSION_METHODS)
def test_every_way_but_ddim_comes_back(way: Any, regional: Make, canvas: Tensor, schedule: Schedule) -> None:
    steps, plan = steps_of(schedule, 20), regional(1.0)
    found = invert(plan, canvas, steps, way)
    error = float((down(plan, found, steps) - canvas).abs().max())
    plain_error = float((down(plan, invert(plan, canvas, steps, "ddim"), steps) - canvas).abs().max())
    assert len(found.path) == 21
    assert torch.equal(found.path[-1], canvas) or way == "lattice"
    if way == "ddim":
        assert error > 1e-3
    else:
        assert error < 0.2 * plain_error


def test_stored_offsets_end_at_the_given_canvas_under_any_guidance(
    regional: Make, canvas: Tensor, schedule: Schedule
) -> None:
    steps = steps_of(schedule, 10)
    found = invert(regional(1.0), canvas, steps, "direct")
    assert torch.equal(down(regional(7.5), found, steps), canvas)


def test_only_the_named_streams_are_put_back(regional: Make, canvas: Tensor, schedule: Schedule) -> None:
    steps = steps_of(schedule, 5)
    one = regional(3.0)
    path = invert(one, canvas, steps, "ddim").path
    both = one.in_scene("a") + one.in_scene("b")
    z = torch.cat([path[0], path[0]])
    out = sample(both, Retrace(Ddim(), path, places=(0,)), z, steps, noise=lambda: torch.zeros(0))
    assert torch.equal(out[0], canvas[0])
    torch.testing.assert_close(out[1:], sample(one, Ddim(), path[0], steps, noise=lambda: torch.zeros(0)))


def test_a_clean_end_without_noise_can_be_inverted(plain: Plan, canvas: Tensor, schedule: Schedule) -> None:
    steps = schedule.steps(10, ends_clean=True)
    for way in ("ddim", "lattice"):
        assert bool(invert(plain, canvas, steps, way).noise.isfinite().all())


def test_no_signal_at_the_start_is_refused(plain: Plan, canvas: Tensor) -> None:
    config = {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    steps = Schedule.from_config({**config, "timestep_spacing": "trailing"}).steps(5, ends_clean=False)
    with pytest.raises(SceneError, match="zero terminal SNR"):
        invert(plain, canvas, steps, "lattice")


def test_an_unknown_way_names_those_that_there_are(plain: Plan, canvas: Tensor, schedule: Schedule) -> None:
    with pytest.raises(SceneError, match=r"edict.*lattice"):
        invert(plain, canvas, steps_of(schedule, 5), "edict")  # type: ignore[arg-type]


def test_it_can_be_cancelled_on_the_way(plain: Plan, canvas: Tensor, schedule: Schedule) -> None:
    calls: list[int] = []

    def watch(step: Step, z: Tensor, x0: Tensor) -> None:
        calls.append(step.index)
        if len(calls) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        invert(plain, canvas, steps_of(schedule, 10), "lattice", watch=watch)
    assert calls == [9, 8, 7]


def test_told_the_words_guidance_does_nothing(regional: Make, canvas: Tensor, schedule: Schedule) -> None:
    steps = steps_of(schedule, 5)
    found = invert(regional(1.0), canvas, steps, "fixed-point")
    guided = down(negative_prompt_inversion(regional(7.5)), found, steps)
    torch.testing.assert_close(guided, down(regional(1.0), found, steps), atol=1e-4, rtol=1e-4)


def test_fitted_null_tokens_bring_guidance_nearer_to_the_path(
    view: Callable[..., View], say: Make, canvas: Tensor, schedule: Schedule
) -> None:
    steps = steps_of(schedule, 5)

    def plan(scale: float) -> Plan:
        return Plan(views=(view("canvas", say(1), say(0), guide=Cfg(scale=scale)),))

    path = invert(plan(1.0), canvas, steps, "ddim").path
    run, errors = Run(), dict[int, float]()
    fitted = fit_null(plan(7.5), path, steps, run=run, watch=lambda step, error: errors.update({step.index: error}))

    def error(told: Plan) -> float:
        out = sample(told, Ddim(), path[0], steps, noise=lambda: torch.zeros(0))
        return float((out - canvas).square().mean())

    assert error(fitted) < error(plan(7.5))
    assert sorted(errors) == [0, 1, 2, 3, 4]
    assert run.forwards > len(steps)
    with pytest.raises(SceneError, match="null branch"):
        fit_null(Plan(views=(view("canvas", say(1)),)), path, steps)
