"""DDIM inversion, and whether sampling ends where it began."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cloisonne.core.guidance import Cfg
from cloisonne.core.inversion.ddim import Retrace, invert
from cloisonne.core.inversion.null_text import fit_null
from cloisonne.core.plan import Plan, Step, View
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.core.sample import sample
from cloisonne.core.samplers import Ddim
from cloisonne.core.schedule import Schedule
from cloisonne.errors import Cancelled, SceneError

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


def test_the_path_ends_at_the_canvas_and_ddim_alone_does_not_come_back(
    regional: Make, canvas: Tensor, schedule: Schedule
) -> None:
    steps, plan = steps_of(schedule, 20), regional(1.0)
    run = Run()
    found = invert(plan, canvas, steps, run=run)
    assert len(found.path) == 21
    assert torch.equal(found.path[-1], canvas)
    assert (found.run, run.forwards, run.rows) == (run, 20, 20)
    alone = sample(plan, Ddim(), found.noise, steps, noise=lambda: torch.zeros(0))
    assert float((alone - canvas).abs().max()) > 1e-3
    assert torch.equal(down(plan, found, steps), canvas)


def test_a_step_back_is_undone_by_ddim_where_the_network_gives_the_same_noise(
    plain: Plan, canvas: Tensor, schedule: Schedule
) -> None:
    """The definition: z at the noisy end from which DDIM's step, with the noise asked at the clean end, leads back."""
    steps = steps_of(schedule, 4)
    found = invert(plain, canvas, steps)
    for step in steps:
        noisy, clean = found.path[step.index], found.path[step.index + 1]
        asked = step if step.s_next == 0 else step.at_next()
        with torch.no_grad():
            n = (clean - asked.alpha * predict(plain, clean, asked)) / asked.s
        x0 = (noisy - step.s * n) / step.alpha
        torch.testing.assert_close(step.alpha_next * x0 + step.s_next * n, clean, atol=1e-4, rtol=1e-4)


def test_several_canvases_are_inverted_together(regional: Make, schedule: Schedule) -> None:
    plan = regional(3.0).in_scene("a") + regional(3.0).in_scene("b")
    z = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    steps = steps_of(schedule, 10)
    both = invert(plan, z, steps)
    assert torch.equal(down(plan, both, steps), z)
    for index in range(2):
        assert torch.equal(both.noise[index], invert(regional(3.0), z[index : index + 1], steps).noise[0])


def test_stored_offsets_end_at_the_given_canvas_under_any_guidance(
    regional: Make, canvas: Tensor, schedule: Schedule
) -> None:
    steps = steps_of(schedule, 10)
    found = invert(regional(1.0), canvas, steps)
    assert torch.equal(down(regional(7.5), found, steps), canvas)


def test_only_the_named_streams_are_put_back(regional: Make, canvas: Tensor, schedule: Schedule) -> None:
    steps = steps_of(schedule, 5)
    one = regional(3.0)
    path = invert(one, canvas, steps).path
    both = one.in_scene("a") + one.in_scene("b")
    z = torch.cat([path[0], path[0]])
    out = sample(both, Retrace(Ddim(), path, places=(0,)), z, steps, noise=lambda: torch.zeros(0))
    assert torch.equal(out[0], canvas[0])
    torch.testing.assert_close(out[1:], sample(one, Ddim(), path[0], steps, noise=lambda: torch.zeros(0)))


def test_a_clean_end_without_noise_can_be_inverted(plain: Plan, canvas: Tensor, schedule: Schedule) -> None:
    steps = schedule.steps(10, ends_clean=True)
    assert bool(invert(plain, canvas, steps).noise.isfinite().all())


def test_it_can_be_cancelled_on_the_way(plain: Plan, canvas: Tensor, schedule: Schedule) -> None:
    calls: list[int] = []

    def on_step(step: Step, z: Tensor, x0: Tensor) -> None:
        calls.append(step.index)
        if len(calls) == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        invert(plain, canvas, steps_of(schedule, 10), on_step=on_step)
    assert calls == [9, 8, 7]


def test_fitted_null_tokens_bring_guidance_nearer_to_the_path(
    view: Callable[..., View], say: Make, canvas: Tensor, schedule: Schedule
) -> None:
    steps = steps_of(schedule, 5)

    def plan(scale: float) -> Plan:
        return Plan(views=(view("canvas", say(1), say(0), guide=Cfg(scale=scale)),))

    path = invert(plan(1.0), canvas, steps).path
    run, errors = Run(), dict[int, float]()
    fitted = fit_null(plan(7.5), path, steps, run=run, on_step=lambda step, error: errors.update({step.index: error}))

    def error(told: Plan) -> float:
        out = sample(told, Ddim(), path[0], steps, noise=lambda: torch.zeros(0))
        return float((out - canvas).square().mean())

    assert error(fitted) < error(plan(7.5))
    assert sorted(errors) == [0, 1, 2, 3, 4]
    assert run.forwards > len(steps)
    with pytest.raises(SceneError, match="null branch"):
        fit_null(Plan(views=(view("canvas", say(1)),)), path, steps)
