"""The loop: known pixels hold, a callback gets every step, and a cancelled run leaves nothing behind."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan, Step
from cloisonne.core.predict import predict
from cloisonne.core.refines import Clamp, Pin
from cloisonne.core.run import Run
from cloisonne.core.sample import sample
from cloisonne.core.samplers import SAMPLERS
from cloisonne.core.schedule import Schedule
from cloisonne.errors import Cancelled

SHAPE = (4, 16, 16)


@pytest.mark.parametrize("name", SAMPLERS)
def test_pin_keeps_known_pixels_at_their_own_noise(name: str, plain: Plan, schedule: Schedule, left: Tensor) -> None:
    """z = alpha * known + s * n outside of the mask at every step; samplers that renew n keep its spread.

    The estimate of LCM keeps a little of z, less than .003 where t is 1 or more.
    """
    sampler, noise = SAMPLERS[name], Noise([Seed(0)], SHAPE)
    known, n = torch.randn(SHAPE), noise()
    steps = schedule.steps(8, ends_clean=sampler.ends_clean)
    outside = left == 0
    spreads: list[float] = []

    def on_step(step: Step, z: Tensor, x0: Tensor) -> None:
        assert torch.equal(x0[0, :, outside], known[:, outside])
        own = (z[0] - step.alpha_next * known)[:, outside]
        if name in ("euler-ancestral", "lcm"):
            spreads.extend([own.std().item() / step.s_next] if step.s_next > 0 else [])
        else:
            torch.testing.assert_close(own, step.s_next * n[0][:, outside], atol=1e-5, rtol=0)

    z = steps[0].alpha * known + steps[0].s * n
    out = sample(plain + Plan(refines=(Pin(known=known, mask=left),)), sampler, z, steps, noise=noise, on_step=on_step)
    assert spreads == pytest.approx([1.0] * len(spreads), abs=0.1)
    assert (out[0] - known)[:, ~outside].abs().max() > 0.1
    if sampler.ends_clean:
        own = 0.01 if name == "lcm" else 0
        torch.testing.assert_close(out[0, :, outside], known[:, outside], atol=own, rtol=0)


def test_soft_pin_mixes(left: Tensor) -> None:
    known, x0 = torch.zeros(SHAPE), torch.ones(1, *SHAPE)
    step = Step(index=0, count=1, t=0, alpha=0.6, s=0.8, t_next=0, alpha_next=1, s_next=0)
    assert torch.equal(Pin(known=known, mask=left / 4)(x0, x0, step, Run())[0, 0], left / 4)


def test_clamp_bounds_the_estimate(plain: Plan) -> None:
    step = Step(index=0, count=1, t=0, alpha=0.6, s=0.8, t_next=0, alpha_next=1, s_next=0)
    z = torch.randn(1, *SHAPE)
    with torch.no_grad():
        free, bound = (predict(plain + Plan(refines=r), z, step) for r in ((), (Clamp(limit=0.5),)))
    assert torch.equal(bound, free.clamp(-0.5, 0.5))
    assert free.abs().max() > 0.5


@pytest.mark.parametrize("name", SAMPLERS)
def test_cancelled_run_leaves_the_network_usable(name: str, plain: Plan, schedule: Schedule) -> None:
    steps = schedule.steps(6, ends_clean=SAMPLERS[name].ends_clean)

    def run(on_step: Callable[[Step, Tensor, Tensor], None]) -> Tensor:
        noise = Noise([Seed(0)], SHAPE)
        return sample(plain, SAMPLERS[name], noise(), steps, noise=noise, on_step=on_step)

    def stop(step: Step, z: Tensor, x0: Tensor) -> None:
        if step.index == 2:
            raise Cancelled("stopped after three steps")

    seen: list[int] = []
    before = run(lambda step, z, x0: seen.append(step.index))
    with pytest.raises(Cancelled):
        run(stop)
    assert torch.equal(run(lambda *_: None), before)
    assert seen == list(range(6))


def test_walk_of_no_steps_is_the_start(plain: Plan, schedule: Schedule) -> None:
    z = torch.randn(1, *SHAPE)
    steps = schedule.steps(20, ends_clean=True, strength=0.0)
    assert torch.equal(sample(plain, SAMPLERS["euler"], z, steps, noise=Noise([Seed(0)], SHAPE)), z)
