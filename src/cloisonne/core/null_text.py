"""Inversion under guidance by what the null branch is told: fitted step by step, or simply the words themselves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cloisonne.core.plan import Branch, Conditioning, Plan, Tokens, View
from cloisonne.core.predict import Run, predict
from cloisonne.core.samplers import Ddim
from cloisonne.core.step import Step
from cloisonne.errors import SceneError

Key = tuple[str, str]
"""Name and stream of a view."""
RATE, ROUNDS, ENOUGH = 1e-2, 10, 1e-5
"""Learning rate, rounds a step and the error at which a step is left, as published."""


def told_words(plan: Plan) -> Plan:
    """Negative-prompt inversion (arXiv 2305.16807): the null branch is told what "cond" is, so guidance is idle."""
    views = (
        replace(view, branches={**view.branches, "null": view.branches["cond"]}) if "null" in view.branches else view
        for view in plan.views
    )
    return replace(plan, views=tuple(views))


def fit_null(
    plan: Plan,
    path: Sequence[Tensor],
    steps: Sequence[Step],
    *,
    rounds: int = ROUNDS,
    run: Run | None = None,
    watch: Callable[[Step, float], None] = lambda step, error: None,
) -> Plan:
    """Null-text optimisation (Mokady et al., CVPR 2023, arXiv 2211.09794, section 3.2, eq. 3).

    path: z [S, C, H, W] at every level, noisiest first, of an inversion at guidance 1. For each step the tokens of
    every view's null branch are fitted, by Adam, so that DDIM from where the last step ended comes to the path. Returns
    the plan with these tokens in place. run receives the counts of what was asked. Raises SceneError where no view has
    a null branch.
    """
    counted = Run() if run is None else run
    keys = [_key(view) for view in plan.views if "null" in view.branches]
    if not keys:
        raise SceneError("No view has a null branch to fit; give the scene a guidance other than 1.")
    started = {_key(view): _null_of(view) for view in plan.views if "null" in view.branches}
    values = {key: told.tokens[0].value.detach().clone() for key, told in started.items()}
    fitted: dict[Key, list[Tensor]] = {key: [] for key in keys}
    z = path[0]
    for step in steps:
        leaves = {key: value.clone().requires_grad_(True) for key, value in values.items()}
        optimiser = torch.optim.Adam(leaves.values(), lr=RATE * (1 - step.index / (2 * len(steps))))
        error = float("inf")
        for _ in range(rounds):
            with torch.enable_grad():
                ahead = _next(_with(plan, started, leaves), z, step, counted)
                loss = torch.nn.functional.mse_loss(ahead, path[step.index + 1])
            error = float(loss.detach())
            if error < ENOUGH + step.index * 2 * ENOUGH:
                break
            gradients = torch.autograd.grad(loss, list(leaves.values()))
            for leaf, gradient in zip(leaves.values(), gradients, strict=True):
                leaf.grad = gradient
            optimiser.step()
        values = {key: leaf.detach() for key, leaf in leaves.items()}
        for key, value in values.items():
            fitted[key].append(value)
        with torch.no_grad():
            z = _next(_with(plan, started, values), z, step, counted)
        watch(step, error)
    said = {key: tuple(_said(started[key], value) for value in own) for key, own in fitted.items()}
    return _replaced(plan, {key: Fitted(own) for key, own in said.items()})


@dataclass(frozen=True, eq=False)
class Fitted:
    """A branch that is told something of its own at each step."""

    told: tuple[Conditioning, ...]

    def __call__(self, z: Tensor, step: Step) -> Conditioning:
        return self.told[step.index]


def _next(plan: Plan, z: Tensor, step: Step, counted: Run) -> Tensor:
    run = Run()
    ahead, _ = Ddim().step(lambda z, step: predict(plan, z, step, run), z, step, None, lambda: z)
    counted.forwards += run.forwards
    counted.rows += run.rows
    return ahead


def _key(view: View) -> Key:
    return view.name, view.stream


def _null_of(view: View) -> Conditioning:
    told = view.branches["null"]
    if callable(told) or len(told.tokens) != 1:
        raise SceneError(f'View "{view.name}": its null branch is no single text, and only such a one can be fitted.')
    return told


def _said(told: Conditioning, value: Tensor) -> Conditioning:
    return replace(told, tokens=(Tokens(value, told.tokens[0].where, told.tokens[0].within),))


def _with(plan: Plan, started: Mapping[Key, Conditioning], values: Mapping[Key, Tensor]) -> Plan:
    return _replaced(plan, {key: _said(started[key], value) for key, value in values.items()})


def _replaced(plan: Plan, nulls: Mapping[Key, Branch]) -> Plan:
    views = (
        replace(view, branches={**view.branches, "null": nulls[_key(view)]}) if _key(view) in nulls else view
        for view in plan.views
    )
    return replace(plan, views=tuple(views))
