"""One prediction from many views: fusion, grouping, order, merged scenes, and what is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cloisonne.core.collate import passes
from cloisonne.core.guidance import Cfg, Single
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Box, Call, Conditioning, Interval, Plan, Row, Step, Tokens, View
from cloisonne.core.predict import predict
from cloisonne.core.refines import Pin
from cloisonne.core.run import Run
from cloisonne.core.sample import sample
from cloisonne.core.samplers import SAMPLERS
from cloisonne.core.schedule import Schedule
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.models.unet.denoiser import UNetDenoiser
from cloisonne.models.unet.injection_points import DOWN, SKIP_MID

SHAPE = (4, 16, 16)
STEP = Step(index=0, count=2, t=500, alpha=0.6, s=0.8, t_next=0, alpha_next=1, s_next=0)

Views = Callable[..., View]
Say = Callable[..., Conditioning]


def walk(
    plan: Plan, name: str, schedule: Schedule, seeds: dict[str, int] | None = None, run: Run | None = None
) -> Tensor:
    """Five steps; one canvas for each stream, from its own seed."""
    noise = Noise([Seed((seeds or {}).get(stream, 0)) for stream in plan.streams], SHAPE)
    steps = schedule.steps(5, ends_clean=SAMPLERS[name].ends_clean)
    return sample(plan, SAMPLERS[name], noise(), steps, noise=noise, run=run)


@pytest.fixture
def regions(view: Views, say: Say, soft: Tensor) -> Plan:
    """A base view with two texts, and two soft views over it, one of them late."""
    base = view("canvas", say(1, mask=soft[0]) + say(2, mask=1 - soft[0]), say(0))
    shoe = view("shoe", say(3), say(4), weight=2 * soft[1])
    lace = view("lace", say(5), weight=soft[2], when=Interval(0.4, 1.0))
    return Plan(views=(base, shoe, lace))


@torch.no_grad()
def test_fusing_estimates_is_fusing_steps_of_ddim(regions: Plan, schedule: Schedule) -> None:
    """MultiDiffusion steps every view by itself and averages what comes out."""
    views = [replace(view, when=Interval()) for view in regions.views]
    together = walk(Plan(views=tuple(views)), "ddim", schedule)
    noise = Noise([Seed(0)], SHAPE)
    z, total = noise(), torch.stack([view.weight for view in views]).sum(0)
    for step in schedule.steps(5, ends_clean=False):
        stepped = [sample(Plan(views=(_whole(view),)), SAMPLERS["ddim"], z, [step], noise=noise) for view in views]
        z = torch.stack([view.weight / total * out for view, out in zip(views, stepped, strict=True)]).sum(0)
    torch.testing.assert_close(together, z, atol=1e-5, rtol=0)


def _whole(view: View) -> View:
    return replace(view, weight=torch.ones_like(view.weight))


@pytest.mark.parametrize("name", SAMPLERS)
def test_order_of_views_branches_and_texts_is_irrelevant(name: str, regions: Plan, schedule: Schedule) -> None:
    def backwards(view: View, by: int) -> View:
        told = reversed(list(view.branches.items()))
        turned = {name: replace(c, tokens=c.tokens[::by]) for name, c in told if isinstance(c, Conditioning)}
        return replace(view, branches=turned)

    straight = walk(regions, name, schedule)
    views = Plan(views=tuple(backwards(view, 1) for view in reversed(regions.views)))
    assert torch.equal(walk(views, name, schedule), straight)
    texts = Plan(views=tuple(backwards(view, -1) for view in reversed(regions.views)))
    torch.testing.assert_close(walk(texts, name, schedule), straight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_merged_scenes_are_separate_scenes_whatever_the_batch(
    name: str, regions: Plan, plain: Plan, schedule: Schedule
) -> None:
    """On the CPU to the byte: neither the number of images nor their order in the batch changes one."""
    known = torch.full(SHAPE, 0.5)
    pinned = plain + Plan(refines=(Pin(known=known, mask=(torch.arange(16) > 4).float().expand(16, 16)),))
    scenes = {"0": regions, "10": pinned, "2": plain}
    alone = {key: walk(plan, name, schedule, {"image": int(key)})[0] for key, plan in scenes.items()}
    for keys in (["0", "10"], ["10", "2", "0"]):
        merged = sum((scenes[key].in_scene(key) for key in keys), Plan())
        out = walk(merged, name, schedule, {f"{key}/image": int(key) for key in keys})
        for stream, canvas in zip(merged.streams, out, strict=True):
            assert torch.equal(canvas, alone[stream.removesuffix("/image")])


@pytest.mark.parametrize("name", SAMPLERS)
def test_view_without_weight_or_time_is_absent(
    name: str, plain: Plan, view: Views, say: Say, schedule: Schedule
) -> None:
    run = Run()
    ghosts = (
        view("weightless", say(7), say(8), weight=torch.zeros(16, 16)),
        view("never", say(7), say(8), when=Interval(0.5, 0.5)),
    )
    assert torch.equal(walk(plain + Plan(views=ghosts), name, schedule, run=run), walk(plain, name, schedule))
    assert run.rows == 2 * run.forwards


def test_two_rows_whatever_the_number_of_regions(view: Views, say: Say, schedule: Schedule) -> None:
    for count in (1, 3, 8):
        masks = torch.eye(count)[torch.arange(16) * count // 16].T[:, None, :].expand(-1, 16, -1)
        cond = sum((say(i, mask=mask) for i, mask in enumerate(masks)), Conditioning())
        null = sum((say(50 + i, mask=mask) for i, mask in enumerate(masks)), Conditioning())
        run = Run()
        walk(Plan(views=(view("canvas", cond, null),)), "ddim", schedule, run=run)
        assert (run.forwards, run.rows) == (5, 10)


def test_guidance_interval_skips_the_null_pass(view: Views, say: Say, schedule: Schedule) -> None:
    run = Run()
    guide = Cfg(scale=3.0, interval=Interval(0.2, 0.6))
    walk(Plan(views=(view("canvas", say(1), say(0), guide=guide),)), "ddim", schedule, run=run)
    assert (run.forwards, run.rows) == (5, 5 + 2)


def test_each_network_is_asked_once_a_step(plain: Plan, view: Views, say: Say, net: UNetDenoiser) -> None:
    other = UNetDenoiser(net.unet, net.spec)
    plan = plain + Plan(views=(view("a", say(1), net=other), view("b", say(2)), view("c", say(2), net=other)))
    run = Run()
    predict(plan, torch.randn(1, *SHAPE), STEP, run)
    assert (run.forwards, run.rows) == (2, 5)


def test_images_share_a_forward_off_the_cpu(plain: Plan) -> None:
    merged = plain.in_scene("0") + plain.in_scene("1")
    assert [len(asks) for asks in passes(merged.views, STEP, per_scene=False)] == [4]
    assert [len(asks) for asks in passes(merged.views, STEP, per_scene=True)] == [2, 2]


@torch.no_grad()
def test_window_of_the_canvas_counts_where_it_is(plain: Plan, view: Views, say: Say) -> None:
    box = Box(8, 0, 16, 8)
    window = view("window", say(3), say(4), box=box, weight=torch.full((8, 8), 3.0))
    z = torch.randn(1, *SHAPE)
    base = predict(plain, z, STEP)
    own = predict(Plan(views=(replace(window, box=None),)), z[..., 8:, :8], STEP)
    base[..., 8:, :8] = 0.25 * base[..., 8:, :8] + 0.75 * own
    run = Run()
    torch.testing.assert_close(predict(plain + Plan(views=(window,)), z, STEP, run), base, atol=1e-5, rtol=0)
    assert run.forwards == 2, "one forward for each size of window"


@torch.no_grad()
def test_branch_may_depend_on_canvas_and_step(plain: Plan, view: Views, say: Say) -> None:
    seen: list[tuple[torch.Size, float]] = []

    def cond(z: Tensor, step: Step) -> Conditioning:
        seen.append((z.shape, step.t))
        return say(1)

    z = torch.randn(1, *SHAPE)
    plan = Plan(views=(view("canvas", cond, say(0)),))
    assert torch.equal(predict(plan, z, STEP), predict(plain, z, STEP))
    assert seen == [(torch.Size(SHAPE), 500)]


def test_estimate_is_differentiable_in_tokens(view: Views, words: Callable[..., Tensor], left: Tensor) -> None:
    value = words(1).requires_grad_()
    cond = Conditioning(tokens=(Tokens(value, left), Tokens(words(2), 1 - left)))
    predict(Plan(views=(view("canvas", cond),)), torch.randn(1, *SHAPE), STEP).sum().backward()
    assert value.grad is not None
    assert value.grad.abs().sum() > 0


def test_refines_get_the_streams_they_name(view: Views, say: Say) -> None:
    seen: list[Tensor] = []

    class Swap:
        when = Interval()
        streams = ("source", "image")

        def __call__(self, x0: Tensor, z: Tensor, step: Step, run: Run) -> Tensor:
            seen.append(z)
            return x0.flip(0)

        def in_scene(self, scene: str) -> "Swap":
            return self

    z = torch.randn(2, *SHAPE)
    views = (view("canvas", say(1)), view("canvas", say(2), stream="source"))
    with torch.no_grad():
        straight, swapped = (predict(Plan(views=views, refines=r), z, STEP) for r in ((), (Swap(),)))
    assert torch.equal(swapped, straight.flip(0))
    assert torch.equal(seen[0], z.flip(0)), "source before image, as named"


def test_refine_rests_outside_of_its_interval(plain: Plan) -> None:
    pin = Pin(known=torch.zeros(SHAPE), mask=torch.zeros(16, 16), when=Interval(0.5, 1.0))
    z = torch.randn(1, *SHAPE)
    early, late = (predict(plain + Plan(refines=(pin,)), z, replace(STEP, index=i)) for i in (0, 1))
    assert early.abs().max() > 0
    assert late.abs().max() == 0


@pytest.mark.parametrize("place", ["view", "interval"])
def test_uncovered_pixels_are_counted(place: str, view: Views, say: Say, left: Tensor) -> None:
    views = (view("left", say(1), weight=left),)
    if place == "interval":
        views += (view("rest", say(2), weight=1 - left, when=Interval(0.5, 1.0)),)
    with pytest.raises(SceneError, match='112 latent pixels of "image" are covered by no view'):
        predict(Plan(views=views), torch.randn(1, *SHAPE), STEP)


def test_canvas_without_any_view_is_named(plain: Plan, view: Views, say: Say, schedule: Schedule) -> None:
    ghost = view("ghost", say(1), stream="source", weight=torch.zeros(16, 16))
    with pytest.raises(SceneError, match='No view of "source" has any weight'):
        walk(plain + Plan(views=(ghost,)), "ddim", schedule)


def test_pixels_that_hear_nothing_are_counted(view: Views, say: Say, left: Tensor) -> None:
    with pytest.raises(SceneError, match='View "shoe": 112 latent pixels attend to no text in branch "cond"'):
        predict(Plan(views=(view("shoe", say(1, mask=left)),)), torch.randn(1, *SHAPE), STEP)


@pytest.mark.parametrize(
    ("cond", "guide", "message"),
    [
        (Conditioning(), Single(), 'View "shoe": branch "cond" has no tokens'),
        (Conditioning(), Single("null"), 'View "shoe": guidance asks branch "null"'),
    ],
)
def test_view_that_cannot_be_asked_is_named(cond: Conditioning, guide: Single, message: str, view: Views) -> None:
    with pytest.raises((SceneError, CapabilityError), match=message):
        predict(Plan(views=(view("shoe", cond, guide=guide),)), torch.randn(1, *SHAPE), STEP)


def test_row_that_lacks_what_others_bring_is_named(view: Views, say: Say) -> None:
    cond = say(1) + Conditioning(channels=torch.zeros(5, 16, 16))
    with pytest.raises(CapabilityError, match='View "shoe": branch "null" lacks the input channels'):
        predict(Plan(views=(view("shoe", cond, say(0)),)), torch.randn(1, *SHAPE), STEP)


class Spy:
    """A network that keeps what it is asked."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> Tensor:
        self.calls.append(call)
        return torch.zeros_like(call.z)


def test_rows_without_residuals_get_zeros(view: Views, say: Say) -> None:
    feature, spy = torch.ones(3, 4, 4), Spy()
    cond = say(1) + Conditioning(residuals={DOWN: (feature,), SKIP_MID: (feature, feature)})
    predict(Plan(views=(view("canvas", cond, say(0), net=spy),)), torch.randn(1, *SHAPE), STEP)
    (call,) = spy.calls
    assert call.rows == (Row("canvas", "image", "cond"), Row("canvas", "image", "null"))
    assert torch.equal(call.residuals[DOWN][0], torch.stack([feature, torch.zeros_like(feature)]))
    assert [tuple(level.shape) for level in call.residuals[SKIP_MID]] == [(2, 3, 4, 4)] * 2


def test_pieces_without_a_mask_are_one_sequence(view: Views, say: Say, left: Tensor) -> None:
    spy = Spy()
    cond = say(1) + say(2, mask=left) + say(3, bias_mask=left, count=9)
    predict(Plan(views=(view("canvas", cond, net=spy),)), torch.randn(1, *SHAPE), STEP)
    masked, shared = spy.calls[0].texts.texts
    assert masked.mask is left
    assert torch.equal(shared.value, torch.cat([cond.tokens[0].value, cond.tokens[2].value]))
    assert shared.bias_masks == ((7, 16, left),)


def test_texts_of_a_step_are_those_of_its_rows(view: Views, say: Say) -> None:
    """The same pieces said by other rows than in the step before are another batch."""
    a, b = say(1), say(2)
    spoken = {"cond": iter([a, a + b]), "null": iter([b + a, a])}
    branches = {name: lambda z, step, name=name: next(spoken[name]) for name in spoken}
    moving, run, z = Plan(views=(view("canvas", branches["cond"], branches["null"]),)), Run(), torch.randn(1, *SHAPE)
    for cond, null in ((a, b + a), (a + b, a)):
        expected = predict(Plan(views=(view("canvas", cond, null),)), z, STEP)
        assert torch.equal(predict(moving, z, STEP, run), expected)
