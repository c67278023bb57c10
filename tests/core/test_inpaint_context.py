"""What a network that paints into a hole is shown around it."""

import pytest
import torch
from torch import Tensor

from cloisonne.core.guidance import Single
from cloisonne.core.inpaint_context import InpaintContext
from cloisonne.core.plan import Call, Conditioning, Plan, Step, Tokens, View
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.errors import CapabilityError
from cloisonne.models.spec import NetSpec

SHAPE = (4, 8, 8)
STEP = Step(index=0, count=2, t=500, alpha=0.6, s=0.8, t_next=0, alpha_next=1, s_next=0)


class Answer:
    """A network that says a number everywhere, and keeps what it was asked."""

    spec: NetSpec

    def __init__(self, value: float, order: list["Answer"]) -> None:
        self.value, self.order = value, order
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> Tensor:
        self.order.append(self)
        self.calls.append(call)
        return torch.full_like(call.z, self.value)


def half(left: float, right: float) -> Tensor:
    """[8, 8]: a number in the left half, another one in the right."""
    return torch.cat([torch.full((8, 4), left), torch.full((8, 4), right)], 1)


def seen(net: Answer, weight: Tensor, name: str, told: Conditioning) -> View:
    said = told + Conditioning(tokens=(Tokens(torch.zeros(3, 8)),))
    return View(name=name, net=net, branches={"cond": said}, guide=Single(), weight=weight)


def test_it_sees_the_others_estimate_where_nothing_is_certain() -> None:
    known = torch.full(SHAPE, -1.0)
    around = InpaintContext(known=known, unsure=half(0.0, 1.0), keep=half(0.0, 1.0))
    shown = around.channels(torch.full(SHAPE, 5.0))
    assert torch.equal(shown, torch.cat([half(-1.0, 5.0).expand(4, 8, 8), half(0.0, 1.0)[None]]))


def test_the_network_with_the_hole_is_asked_last_and_shown_what_the_others_estimate() -> None:
    order: list[Answer] = []
    painter, words, more = Answer(7.0, order), Answer(2.0, order), Answer(4.0, order)
    hole = half(1.0, 0.0)
    told = Conditioning(inpaint_context=InpaintContext(known=torch.zeros(SHAPE), unsure=1 - hole, keep=1 - hole))
    plan = Plan(
        views=(
            seen(painter, hole, "a painter", told),
            seen(words, half(0.0, 0.25), "words", Conditioning()),
            seen(more, half(0.0, 0.75), "more", Conditioning()),
        )
    )
    run = Run()
    x0 = predict(plan, torch.randn(1, *SHAPE), STEP, run)
    assert order[-1] is painter
    assert (run.forwards, run.rows) == (3, 3)
    shown = painter.calls[0].channels
    assert shown is not None
    assert torch.equal(shown[0], torch.cat([half(0.0, 3.5).expand(4, 8, 8), half(0.0, 1.0)[None]]))
    assert torch.equal(x0[0, 0], half(7.0, 3.5))


def test_one_network_has_one_picture_around_its_hole() -> None:
    one = Conditioning(
        inpaint_context=InpaintContext(known=torch.zeros(SHAPE), unsure=half(0.0, 1.0), keep=half(0.0, 1.0))
    )
    assert (one + Conditioning()).inpaint_context is one.inpaint_context
    assert repr(one) == "an inpainting context"
    with pytest.raises(CapabilityError, match="an inpainting context"):
        one + one
