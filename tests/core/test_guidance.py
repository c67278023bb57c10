"""Guidance: the formula, maps, intervals, and rescale as diffusers does it."""

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from cloisonne.core.guidance import Cfg, Rescale, Single
from cloisonne.core.parameterization import Parameterization, from_x0, to_x0
from cloisonne.core.plan import Interval, Step

STEP = Step(index=5, count=10, t=500, alpha=0.28, s=0.96, t_next=0, alpha_next=1, s_next=0)
SHAPE = (4, 16, 16)
KINDS: list[Parameterization] = ["epsilon", "v_prediction", "sample"]


@pytest.mark.parametrize("kind", KINDS)
def test_guiding_estimates_is_guiding_outputs(kind: Parameterization) -> None:
    z, cond, null = torch.randn(3, *SHAPE)
    guided = Cfg(scale=7.5)({"cond": to_x0(cond, z, STEP, kind), "null": to_x0(null, z, STEP, kind)}, z, STEP)
    torch.testing.assert_close(from_x0(guided, z, STEP, kind), null + 7.5 * (cond - null), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("amount", [0.0, 0.7, 1.0])
def test_rescale_is_diffusers(kind: Parameterization, amount: float) -> None:
    z, cond, null = torch.randn(3, *SHAPE)
    expected = rescale_noise_cfg((null + 7.5 * (cond - null))[None], cond[None], amount)[0]
    guide = Cfg(scale=7.5, rescale=Rescale(amount, kind))
    guided = guide({"cond": to_x0(cond, z, STEP, kind), "null": to_x0(null, z, STEP, kind)}, z, STEP)
    torch.testing.assert_close(from_x0(guided, z, STEP, kind), expected, atol=1e-4, rtol=0)


def test_scale_may_differ_by_pixel() -> None:
    z, cond, null = torch.randn(3, *SHAPE)
    scale = torch.full((16, 16), 2.0)
    scale[:, 8:] = 5.0
    mapped = Cfg(scale=scale)({"cond": cond, "null": null}, z, STEP)
    for columns, value in ((slice(0, 8), 2.0), (slice(8, 16), 5.0)):
        plain = Cfg(scale=value)({"cond": cond, "null": null}, z, STEP)
        assert torch.equal(mapped[..., columns], plain[..., columns])


def test_null_is_asked_only_where_it_is_used() -> None:
    assert Cfg(scale=3.0).branches(STEP) == ("cond", "null")
    assert Cfg(scale=1.0).branches(STEP) == ("cond",)
    assert Cfg(scale=torch.ones(2, 2)).branches(STEP) == ("cond", "null")
    assert Cfg(scale=3.0, interval=Interval(0.0, 0.5)).branches(STEP) == ("cond",)
    assert Single("edit").branches(STEP) == ("edit",)


@pytest.mark.parametrize("kind", KINDS)
def test_parameterizations_invert(kind: Parameterization) -> None:
    z, output = torch.randn(2, *SHAPE)
    back = from_x0(to_x0(output, z, STEP, kind), z, STEP, kind)
    torch.testing.assert_close(back, output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_parameterizations_mean_what_they_say(kind: Parameterization) -> None:
    x0, n = torch.randn(2, *SHAPE)
    z = STEP.alpha * x0 + STEP.s * n
    output = {"epsilon": n, "v_prediction": STEP.alpha * n - STEP.s * x0, "sample": x0}[kind]
    torch.testing.assert_close(to_x0(output, z, STEP, kind), x0, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_parameterizations_are_finite_at_zero_terminal_snr(kind: Parameterization) -> None:
    step = Step(index=0, count=1, t=999, alpha=0.0, s=1.0, t_next=0, alpha_next=1, s_next=0)
    z, output = torch.randn(2, *SHAPE)
    x0 = to_x0(output, z, step, kind)
    assert torch.equal(x0, -output if kind == "v_prediction" else output)
    assert torch.equal(from_x0(x0, z, step, kind), output)
