"""ControlNets: one forward a step for all rows that need them, their residuals masked."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from cloisonne.core.control_residuals import ControlNetRequest, masked
from cloisonne.core.plan import Conditioning, Plan, Step, View
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.errors import CapabilityError
from cloisonne.models.unet.injection_points import SKIP_MID

SHAPE = (4, 16, 16)
STEP = Step(index=0, count=2, t=500, alpha=0.6, s=0.8, t_next=0, alpha_next=1, s_next=0)
LEVELS = ((32, 16), (32, 16), (32, 8), (64, 8), (64, 8))
"""Channels and side of what joins the tiny UNet."""

Views = Callable[..., View]
Say = Callable[..., Conditioning]


class Side:
    """A ControlNet whose residuals are the first token of its text, everywhere."""

    point = SKIP_MID

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(
        self,
        z: Tensor,
        step: Step,
        texts: Sequence[Tensor],
        image: Tensor,
        pooled: Tensor | None,
        micro: Any,
        weights: Tensor,
    ) -> tuple[Tensor, ...]:
        assert pooled is None
        assert not micro
        text = torch.stack(list(texts))
        self.rows.append(len(z))
        return tuple(text[:, :1, :1, None].expand(-1, channels, side, side) for channels, side in LEVELS)


def control(net: Side, weight: Tensor) -> Conditioning:
    return Conditioning(controlnets=(ControlNetRequest(net=net, image=torch.zeros(3, 128, 128), weight=weight),))


def text_of(value: float) -> Conditioning:
    return Conditioning(summary=torch.full((7, 32), value))


def test_it_is_asked_once_and_adds_its_residuals(view: Views, say: Say, soft: Tensor) -> None:
    z, side, run = torch.randn(1, *SHAPE), Side(), Run()
    cond, null = say(1), say(0)
    found = predict(
        Plan(
            views=(
                view(
                    "canvas", cond + control(side, soft[0]) + text_of(0.3), null + control(side, soft[0]) + text_of(0.1)
                ),
            )
        ),
        z,
        STEP,
        run,
    )
    assert side.rows == [2]
    assert (run.forwards, run.rows) == (2, 4)
    own = [
        Conditioning(residuals={SKIP_MID: tuple(masked(torch.full((c, s, s), value), soft[0]) for c, s in LEVELS)})
        for value in (0.3, 0.1)
    ]
    expected = predict(Plan(views=(view("canvas", cond + own[0], null + own[1]),)), z, STEP)
    assert torch.equal(found, expected)
    assert not torch.allclose(found, predict(Plan(views=(view("canvas", cond, null),)), z, STEP))


@pytest.mark.parametrize("telling", ["cond", "both"])
def test_an_empty_mask_changes_nothing(view: Views, say: Say, telling: str) -> None:
    z, zero = torch.randn(1, *SHAPE), torch.zeros(16, 16)
    cond, null, told = say(1), say(0), control(Side(), zero) + text_of(0.3)
    plan = Plan(views=(view("canvas", cond + told, null + told if telling == "both" else null),))
    assert torch.equal(predict(plan, z, STEP), predict(Plan(views=(view("canvas", cond, null),)), z, STEP))


def test_several_add_up_and_one_network_is_asked_once(view: Views, say: Say, left: Tensor) -> None:
    z, first, second, run = torch.randn(1, *SHAPE), Side(), Side(), Run()
    told = control(first, left) + control(first, 1 - left) + control(second, torch.full((16, 16), 0.5))
    found = predict(Plan(views=(view("canvas", say(1) + told + text_of(0.3)),)), z, STEP, run)
    assert (first.rows, second.rows, run.forwards, run.rows) == ([2], [1], 3, 4)
    whole = say(1) + control(Side(), torch.full((16, 16), 1.5)) + text_of(0.3)
    torch.testing.assert_close(found, predict(Plan(views=(view("canvas", whole),)), z, STEP), atol=1e-5, rtol=0)
    assert repr(told) == "a ControlNet on 56%; a ControlNet on 44%; a ControlNet on 100%"


def test_a_controlnet_needs_a_summary(view: Views, say: Say) -> None:
    plan = Plan(views=(view("canvas", say(1) + control(Side(), torch.ones(16, 16))),))
    with pytest.raises(CapabilityError, match='branch "cond" lacks the summary'):
        predict(plan, torch.randn(1, *SHAPE), STEP)
