"""Plans and conditions are monoids of plain values, and say what they are."""

from collections.abc import Callable

import pytest
import torch

from cloisonne.core.plan import Box, Conditioning, Interval, Plan, Step, Tokens, View
from cloisonne.core.refines import Pin
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.models.unet.injection_points import DOWN, SKIP_MID

LEVEL = torch.ones(3, 4, 4)


def fields(conditioning: Conditioning) -> tuple[object, ...]:
    sums = {point: [level.tolist() for level in levels] for point, levels in conditioning.residuals.items()}
    return conditioning.tokens, conditioning.channels, conditioning.pooled, conditioning.micro, sums


def test_conditioning_is_a_monoid() -> None:
    a = Conditioning(tokens=(Tokens(torch.ones(2, 8)),), residuals={DOWN: (LEVEL,)})
    b = Conditioning(tokens=(Tokens(torch.zeros(3, 8)),), channels=LEVEL, pooled=torch.ones(4))
    c = Conditioning(residuals={DOWN: (2 * LEVEL,), SKIP_MID: (LEVEL,)}, micro={"size": (1.0, 2.0)})
    assert fields((a + b) + c) == fields(a + (b + c))
    assert fields(a + Conditioning()) == fields(Conditioning() + a) == fields(a)
    assert torch.equal((a + c).residuals[DOWN][0], 3 * LEVEL)
    assert (a + b).tokens == a.tokens + b.tokens


@pytest.mark.parametrize(
    ("twice", "what"),
    [
        (Conditioning(channels=LEVEL), "input channels"),
        (Conditioning(pooled=torch.ones(4)), "pooled text"),
        (Conditioning(micro={"size": (1.0,)}), "size conditioning"),
        (Conditioning(summary=LEVEL[0]), "a summary text"),
    ],
)
def test_what_has_one_place_comes_once(twice: Conditioning, what: str) -> None:
    with pytest.raises(CapabilityError, match=f"both bring {what}.*give one a view"):
        _ = twice + twice


def test_residuals_of_other_shapes_do_not_add() -> None:
    with pytest.raises(CapabilityError, match=f"residuals of different shapes at {SKIP_MID}"):
        _ = Conditioning(residuals={SKIP_MID: (LEVEL,)}) + Conditioning(residuals={SKIP_MID: (LEVEL, LEVEL)})


def test_plan_is_a_monoid(plain: Plan, view: Callable[..., View]) -> None:
    other = Plan(views=(view("shoe", Conditioning()),), refines=(Pin(known=LEVEL, mask=LEVEL[0]),))
    merged = plain + other
    assert merged.views == plain.views + other.views
    assert merged.refines == other.refines
    assert (plain + Plan()).views == (Plan() + plain).views == plain.views


def test_views_of_one_canvas_have_different_names(plain: Plan) -> None:
    with pytest.raises(SceneError, match='Two views of "image" are named "canvas"'):
        _ = plain + plain


def test_scene_prefixes_every_stream(plain: Plan) -> None:
    plan = (plain + Plan(refines=(Pin(known=LEVEL, mask=LEVEL[0]),))).in_scene("a").in_scene("b")
    assert plan.streams == ("b/a/image",)
    assert plan.refines[0].streams == ("b/a/image",)
    assert plan.views[0].scene == "b/a"
    assert plain.views[0].scene == ""


def test_canvases_are_stacked_by_name(plain: Plan) -> None:
    plan = plain.in_scene("2") + plain.in_scene("10")
    assert plan.streams == ("10/image", "2/image")
    stacked = plan.stack({"2/image": 2 * LEVEL, "10/image": 10 * LEVEL})
    assert stacked[:, 0, 0, 0].tolist() == [10, 2]


def test_interval_is_half_open() -> None:
    steps = [Step(index=i, count=10, t=0, alpha=0.6, s=0.8, t_next=0, alpha_next=1, s_next=0) for i in range(10)]
    assert [step.index for step in steps if step in Interval(0.3, 0.6)] == [3, 4, 5]
    assert all(step in Interval() for step in steps)
    assert Interval(0.5, 0.5).empty
    assert not Interval().empty


@pytest.mark.parametrize(("start", "stop"), [(-0.1, 1.0), (0.0, 1.5), (float("nan"), 1.0)])
def test_interval_stays_inside_of_the_walk(start: float, stop: float) -> None:
    with pytest.raises(SceneError, match="is no part of the steps"):
        Interval(start, stop)


def test_step_knows_its_noise_and_its_end() -> None:
    step = Step(index=0, count=1, t=9, alpha=0.6, s=0.8, t_next=3, alpha_next=0.8, s_next=0.6)
    assert step.sigma == pytest.approx(4 / 3)
    assert (step.at_next().t, step.at_next().alpha, step.at_next().s) == (3, 0.8, 0.6)
    assert Step(index=0, count=1, t=9, alpha=0, s=1, t_next=3, alpha_next=0.8, s_next=0.6).sigma == float("inf")


def test_repr_tells_views_rows_and_tokens(
    view: Callable[..., View], say: Callable[..., Conditioning], left: torch.Tensor
) -> None:
    told = say(1, mask=left) + say(2, count=9, bias_mask=left) + Conditioning(channels=LEVEL)
    text = repr(Plan(views=(view("shoe", told, lambda z, step: told, box=Box(0, 0, 16, 16)),)))
    assert 'View "shoe" of "image": Box(top=0, left=0, bottom=16, right=16)' in text
    assert "cond: 7 tokens on 56%; 9 tokens everywhere, strict on 56%; 3 channels" in text
    assert "null: depends on the step" in text
    assert "Cfg(scale=3.0" in text
