"""Inversion under guidance: tokens of the null branch, or of the conditional one, fitted at each step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.finite import check_finite
from cloisonne.core.plan import Branch, Conditioning, Plan, Tokens, View
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.core.samplers import Ddim
from cloisonne.core.step import Step
from cloisonne.errors import SceneError

Key = tuple[str, str, int]
"""``View.key``."""
RATE, ROUNDS, ENOUGH = 1e-2, 10, 1e-5
"""Learning rate, rounds a step and the error at which a step is left, as published."""


def fit_null(
    plan: Plan,
    path: Sequence[Float[Tensor, "S C H W"]],
    steps: Sequence[Step],
    *,
    rounds: int = ROUNDS,
    run: Run | None = None,
    on_step: Callable[[Step, float], None] = lambda step, error: None,
) -> Plan:
    """Null-text optimisation (Mokady et al., CVPR 2023, arXiv 2211.09794, section 3.2, eq. 3).

    path: z [S, C, H, W] at every level, noisiest first, of an inversion at guidance 1. For each step the tokens of
    every view's null branch are fitted, by Adam, so that DDIM from where the last step ended comes to the path. Returns
    the plan with these tokens in place. run receives the counts of what was asked. Raises SceneError where no view has
    a null branch.
    """
    return _fitted(plan, "null", path, None, steps, rounds, run or Run(), on_step)


def fit_pivot(
    plan: Plan,
    path: Sequence[Float[Tensor, "S C H W"]],
    steps: Sequence[Step],
    *,
    rounds: int = ROUNDS,
    run: Run | None = None,
    on_step: Callable[[Step, float], None] = lambda step, error: None,
) -> Plan:
    """Pivot turning inversion (Cheng et al., ICCV 2023, arXiv 2307.14352): the same for the "cond" branch, so that the
    guided estimate of the clean canvas is the one that the path ends at.

    An error of the clean canvas is that of the noise times ``(s / alpha)^2``, and is weighed back before that.
    """
    return _fitted(plan, "cond", path, path[-1], steps, rounds, run or Run(), on_step)


def _fitted(
    plan: Plan,
    branch: str,
    path: Sequence[Float[Tensor, "S C H W"]],
    clean: Float[Tensor, "S C H W"] | None,
    steps: Sequence[Step],
    rounds: int,
    run: Run,
    on_step: Callable[[Step, float], None],
) -> Plan:
    """The plan with the tokens of one branch of every view fitted to the path, or to the clean canvas."""
    keys = [_key(view) for view in plan.views if "null" in view.branches]
    if not keys:
        raise SceneError("No view has a null branch to fit; give the scene a guidance other than 1.")
    started = {_key(view): _text_of(view, branch) for view in plan.views if "null" in view.branches}
    values = {key: conditioned.tokens[0].value.detach().clone() for key, conditioned in started.items()}
    fitted: dict[Key, list[Tensor]] = {key: [] for key in keys}
    z = path[0]
    for step in steps:
        leaves = {key: value.clone().requires_grad_(True) for key, value in values.items()}
        optimiser = torch.optim.Adam(leaves.values(), lr=RATE * (1 - step.index / (2 * len(steps))))
        error = float("inf")
        for _ in range(rounds):
            with torch.enable_grad():
                conditioned = _with(plan, branch, started, leaves)
                if clean is None:
                    loss = torch.nn.functional.mse_loss(_next(conditioned, z, step, run), path[step.index + 1])
                else:
                    loss = torch.nn.functional.mse_loss(_estimate(conditioned, z, step, run), clean)
            weight = 1.0 if clean is None else step.alpha**2 / step.s**2
            error = float(loss.detach()) * weight
            if error < ENOUGH + step.index * 2 * ENOUGH:
                break
            gradients = torch.autograd.grad(loss, list(leaves.values()))
            for leaf, gradient in zip(leaves.values(), gradients, strict=True):
                leaf.grad = gradient
            optimiser.step()  # pyright: ignore[reportUnknownMemberType]
        values = {key: leaf.detach() for key, leaf in leaves.items()}
        for key, value in values.items():
            fitted[key].append(value)
        with torch.no_grad():
            z = _next(_with(plan, branch, started, values), z, step, run)
        check_finite(z, step, "the fit of step")
        on_step(step, error)
    fitted_branches = {key: tuple(_with_value(started[key], value) for value in own) for key, own in fitted.items()}
    return _replaced(plan, branch, {key: Fitted(own) for key, own in fitted_branches.items()})


@dataclass(frozen=True, eq=False)
class Fitted:
    """A branch with a conditioning of its own at each step."""

    by_step: tuple[Conditioning, ...]

    def __call__(self, z: Tensor, step: Step) -> Conditioning:
        return self.by_step[step.index]


def _estimate(plan: Plan, z: Tensor, step: Step, run: Run) -> Tensor:
    return predict(plan, z, step, run.part())


def _next(plan: Plan, z: Tensor, step: Step, run: Run) -> Tensor:
    z_next, _ = Ddim().step(lambda z, step: _estimate(plan, z, step, run), z, step, None, lambda: z)
    return z_next


def _key(view: View) -> Key:
    return view.key


def _text_of(view: View, branch: str) -> Conditioning:
    conditioned = view.branches[branch]
    if callable(conditioned) or len(conditioned.tokens) != 1:
        raise SceneError(
            f'View "{view.name}": its branch "{branch}" is no single text, and only such a one can be fitted.'
        )
    return conditioned


def _with_value(conditioned: Conditioning, value: Tensor) -> Conditioning:
    first = conditioned.tokens[0]
    return replace(conditioned, tokens=(Tokens(value, first.mask, first.bias_mask),))


def _with(plan: Plan, branch: str, started: Mapping[Key, Conditioning], values: Mapping[Key, Tensor]) -> Plan:
    return _replaced(plan, branch, {key: _with_value(started[key], value) for key, value in values.items()})


def _replaced(plan: Plan, branch: str, conditioned: Mapping[Key, Branch]) -> Plan:
    views = (
        replace(view, branches={**view.branches, branch: conditioned[_key(view)]})
        if _key(view) in conditioned
        else view
        for view in plan.views
    )
    return replace(plan, views=tuple(views))
