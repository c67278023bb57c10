"""FlowEdit: the published update, in any parameterization and schedule, and where and when it changes the canvas."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from cloisonne.core.flow_schedule import FlowSchedule
from cloisonne.core.guidance import Cfg, Single
from cloisonne.core.inversion.flowedit import FlowEdit, FlowTiming, last_steps
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan, Step
from cloisonne.core.refines import Follow
from cloisonne.core.sample import sample
from cloisonne.core.samplers import SAMPLERS
from cloisonne.core.schedule import Schedule
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.denoiser import UNetDenoiser

Make = Callable[..., Any]
SHAPE = (4, 16, 16)
SOURCE, TARGET = "before", "after"
STEPS = last_steps(FlowSchedule(shift=3.0).steps(5), 4)


def noise(seed: int = 5) -> Noise:
    return Noise([Seed(seed)], SHAPE)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def canvas() -> Tensor:
    return random(4, *SHAPE)


@pytest.fixture
def flow_net(net: UNetDenoiser) -> UNetDenoiser:
    unet = net.unet
    return UNetDenoiser(unet, NetSpec.from_unet(unet.config, latent="tiny", vae_factor=8, prediction="flow"))


@pytest.fixture
def pair(view: Make, say: Make) -> Callable[..., Plan]:
    """pair(source words, target words, scales): both streams, each with its own words and guidance."""

    def make(source: int = 1, target: int = 2, scales: tuple[float, float] = (1.0, 4.0), **fields: Any) -> Plan:
        guides = [Single() if scale == 1 else Cfg(scale=scale) for scale in scales]
        views = [
            view("canvas", say(words), None if guide == Single() else say(0), guide, stream=stream, **fields)
            for words, guide, stream in zip((source, target), guides, (SOURCE, TARGET), strict=True)
        ]
        return Plan(views=tuple(views))

    return make


def timing(*counts: tuple[int, Tensor], anew: Tensor | None = None, steps: int = 4) -> FlowTiming:
    none = torch.zeros(SHAPE[1:])
    return FlowTiming(source=SOURCE, target=TARGET, num_steps=steps, counts=counts, anew=none if anew is None else anew)


def edited(plan: Plan, canvas: Tensor, where: FlowTiming, steps: tuple[Step, ...], **options: Any) -> Tensor:
    """The edited canvas, [C, H, W]."""
    solver = options.pop("solver", SAMPLERS["ddim"])
    fresh = noise()
    whole = plan + Plan(refines=where.follows())
    flow = where.solver(whole, solver, options.pop("n_avg", 1))
    z = where.latents(whole, canvas, fresh()[0])
    z = sample(whole, flow, z, last_steps(steps, where.count), noise=fresh, **options)
    assert torch.equal(z[whole.streams.index(SOURCE)], canvas)
    return z[whole.streams.index(TARGET)]


@pytest.mark.parametrize("n_avg", [1, 3])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.s:.2f}")
def test_the_step_is_the_published_update(step: Step, n_avg: int) -> None:
    """``Z_FE <- Z_FE + (t_next - t) mean(v_tar - v_src)``, on random numbers."""
    known, moved = random(0, *SHAPE).double(), random(1, *SHAPE).double()
    draws = random(2, n_avg, 1, *SHAPE).double()
    velocity = {SOURCE: random(3, n_avg, *SHAPE).double(), TARGET: random(4, n_avg, *SHAPE).double()}
    seen: list[Tensor] = []

    def denoise(z: Tensor, at: Step) -> Tensor:
        index = len(seen)
        seen.append(z)
        return torch.stack([z[0] - at.s * velocity[SOURCE][index], z[1] - at.s * velocity[TARGET][index]])

    z = torch.stack([known, moved])
    draw = iter(draws)
    found, _ = FlowEdit(source=0, target=1, n_avg=n_avg).step(denoise, z, step, None, lambda: next(draw))
    difference = (velocity[TARGET] - velocity[SOURCE]).mean(0)
    torch.testing.assert_close(found[1], moved + (step.s_next - step.s) * difference, atol=1e-12, rtol=0)
    assert torch.equal(found[0], known)
    for z, n in zip(seen, draws, strict=True):
        noised = (1 - step.s) * known + step.s * n[0]
        torch.testing.assert_close(z[0], noised, atol=1e-12, rtol=0)
        torch.testing.assert_close(z[1], moved + noised - known, atol=1e-12, rtol=0)


def test_a_schedule_of_any_scale_takes_the_step_of_its_flow() -> None:
    """(alpha, s) and (alpha, s) / (alpha + s) are one level, with z divided as well."""
    z, n = random(0, 2, *SHAPE).double(), random(1, 1, *SHAPE).double()
    step = Schedule.from_config({"prediction_type": "v_prediction"}).steps(6, ends_clean=False)[2]
    first, last = step.alpha + step.s, step.alpha_next + step.s_next
    flow = replace(
        step,
        alpha=step.alpha / first,
        s=step.s / first,
        alpha_next=step.alpha_next / last,
        s_next=step.s_next / last,
    )
    solver = FlowEdit(source=0, target=1)
    one, _ = solver.step(lambda z, at: (z / first).sin(), z, step, None, lambda: n)
    other, _ = solver.step(lambda z, at: z.sin(), z, flow, None, lambda: n)
    torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    assert not torch.equal(one[1], z[1])


@pytest.mark.parametrize(("n_max", "n_avg"), [(6, 1), (4, 1), (4, 2)])
def test_a_flow_model_edits_as_the_paper_s_algorithm_does(
    stock: UNet2DConditionModel,
    flow_net: UNetDenoiser,
    pair: Make,
    words: Make,
    canvas: Tensor,
    n_max: int,
    n_avg: int,
) -> None:
    """Algorithm 1 of arXiv 2412.08629 with guidance, on the network's own velocities."""
    steps = FlowSchedule(shift=3.0).steps(6)
    times = [*(step.s for step in steps), 0.0][-n_max - 1 :]
    fresh = noise()
    fresh()

    def velocity(z: Tensor, t: float, text: int, scale: float) -> Tensor:
        texts = torch.stack([words(0), words(text)])
        null, cond = stock(torch.stack([z, z]), t * 1000, encoder_hidden_states=texts).sample
        return null + scale * (cond - null)

    moved = canvas
    with torch.no_grad():
        for t, after in pairwise(times):
            total = torch.zeros(SHAPE)
            for _ in range(n_avg):
                source = (1 - t) * canvas + t * fresh()[0]
                target = moved + source - canvas
                total += (velocity(target, t, 2, 5.0) - velocity(source, t, 1, 1.5)) / n_avg
            moved = moved + (after - t) * total
    plan = pair(1, 2, (1.5, 5.0), net=flow_net)
    found = edited(plan, canvas, timing((n_max, torch.ones(16, 16)), steps=6), steps, n_avg=n_avg)
    torch.testing.assert_close(found, moved, atol=2e-4, rtol=1e-4)
    assert float((found - canvas).abs().mean()) > 0.05


def levels(kind: str) -> tuple[Step, ...]:
    if kind == "flow":
        return FlowSchedule().steps(4)
    return Schedule.from_config({"prediction_type": kind}).steps(4, ends_clean=False)


@pytest.fixture(params=["flow", "epsilon", "v_prediction", "sample"])
def family(request: pytest.FixtureRequest, nets: Mapping[str, UNetDenoiser], flow_net: UNetDenoiser) -> Any:
    """A network and the steps of its schedule."""
    return {**nets, "flow": flow_net}[request.param], levels(request.param)


@pytest.mark.parametrize("n_avg", [1, 2])
def test_equal_captions_leave_the_canvas_to_the_bit(family: Any, pair: Make, canvas: Tensor, n_avg: int) -> None:
    net, steps = family
    plan = pair(1, 1, (3.0, 3.0), net=net)
    where = timing((3, torch.ones(16, 16)))
    assert torch.equal(edited(plan, canvas, where, steps, n_avg=n_avg), canvas)
    other = edited(pair(1, 2, (3.0, 3.0), net=net), canvas, where, steps, n_avg=n_avg)
    assert float((other - canvas).abs().mean()) > 1e-3


def test_an_empty_mask_leaves_the_canvas_to_the_bit(family: Any, pair: Make, canvas: Tensor) -> None:
    net, steps = family
    assert torch.equal(edited(pair(net=net), canvas, timing((4, torch.zeros(16, 16))), steps), canvas)


def test_nothing_changes_outside_of_the_mask(family: Any, pair: Make, canvas: Tensor, left: Tensor) -> None:
    net, steps = family
    found = edited(pair(net=net), canvas, timing((4, left)), steps)
    assert torch.equal(found[:, left == 0], canvas[:, left == 0])
    assert (found[:, left == 1] != canvas[:, left == 1]).any()


def test_the_order_of_regions_changes_nothing(pair: Make, canvas: Tensor, left: Tensor, soft: Tensor) -> None:
    parts = [(2, left), (4, soft[1]), (3, soft[2].round())]
    one, other = (
        edited(pair(), canvas, timing(*own, anew=soft[3].ceil()), levels("v_prediction"))
        for own in (parts, parts[::-1])
    )
    assert torch.equal(one, other)


def test_each_part_begins_at_its_own_step(pair: Make, canvas: Tensor, left: Tensor) -> None:
    ends: list[Tensor] = []
    plan = pair()
    where = timing((4, left), (2, 1 - left))
    edited(plan, canvas, where, levels("v_prediction"), on_step=lambda step, z, x0: ends.append(z.clone()))
    place = plan.streams.index(TARGET)
    changed = [
        [bool((z[place][:, part == 1] != canvas[:, part == 1]).any()) for part in (left, 1 - left)] for z in ends
    ]
    assert changed == [[True, False], [True, False], [True, True], [True, True]]
    alone = edited(plan, canvas, timing((2, torch.ones(16, 16))), levels("v_prediction"))
    assert not torch.equal(alone, ends[-1][place])


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("euler-ancestral", "lcm")])
def test_what_is_painted_anew_is_sampled(pair: Make, canvas: Tensor, name: str) -> None:
    """Where all of the canvas is painted anew, it is that of the target's plan alone."""
    solver, plan = SAMPLERS[name], pair()
    steps = Schedule.from_config({"prediction_type": "v_prediction"}).steps(4, ends_clean=solver.ends_clean)
    found = edited(plan, canvas, timing(anew=torch.ones(16, 16)), steps, solver=solver)
    alone = Plan(views=tuple(view for view in plan.views if view.stream == TARGET))
    expected = sample(alone, solver, noise()(), steps, noise=noise())[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_parts_of_both_kinds_meet_in_one_canvas(pair: Make, canvas: Tensor, left: Tensor) -> None:
    rest = 1 - left
    rest[:8] = 0
    steps = levels("v_prediction")
    found = edited(pair(), canvas, timing((2, left), anew=rest), steps)
    outside = (left + rest) == 0
    assert outside.any()
    assert torch.equal(found[:, outside], canvas[:, outside])
    assert (found[:, left == 1] != canvas[:, left == 1]).any()
    moved = edited(pair(), canvas + 0.5 * outside, timing((2, left), anew=rest), steps)
    assert (moved[:, rest == 1] != found[:, rest == 1]).any()


def test_the_last_steps_are_counted_anew() -> None:
    steps = levels("flow")
    found = last_steps(steps, 3)
    assert [(step.index, step.count, step.s) for step in found] == [(i, 3, steps[i + 1].s) for i in range(3)]
    assert last_steps(steps, 4) == steps
    assert last_steps(steps, 0) == ()
    assert all(isinstance(refine, Follow) for refine in timing((3, torch.ones(16, 16))).follows())
