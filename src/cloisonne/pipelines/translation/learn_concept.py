"""Learning a concept from one picture: multi-concept inversion (VCT, arXiv 2307.14352, section 3.2)."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.guidance import Single
from cloisonne.core.plan import Conditioning, Plan, Tokens, View
from cloisonne.core.predict import Run, predict
from cloisonne.core.step import Step
from cloisonne.errors import CapabilityError, NotFiniteError
from cloisonne.models.capabilities import TITLES
from cloisonne.models.model import Model
from cloisonne.models.text.learned_concept import Concept, said, table_of, width_of
from cloisonne.pipelines.translation.checkpoint import LearningFolder, LearningState
from cloisonne.scene.conditions.translation_presets import Translating

Learning = Callable[[int, int, float], None]
"""(round, rounds, loss); may raise Cancelled."""
EVERY = 10
"""After so many rounds an interrupted learning can go on."""
LEVELS = 16
"""Of noise, at which it is judged whether the loss still falls."""


def check_learns(model: Model) -> None:
    """CapabilityError for models of two text encoders, and of networks that ask for more than text."""
    width_of(model.text)
    if model.spec.extra_channels:
        raise CapabilityError(
            f'The model "{model.name}" ({TITLES[model.family]} for inpainting) learns no concepts; load a plain one, '
            'or use the preset "fast".'
        )


def learn(
    known: Tensor,
    model: Model,
    translating: Translating,
    *,
    word: str = "",
    seed: int = 0,
    run: Run | None = None,
    cache: Path | None = None,
    watch: Learning = lambda at, count, loss: None,
) -> Concept:
    """The concept that :func:`fit` comes to."""
    state = fit(known, model, translating, word=word, seed=seed, run=run, cache=cache, watch=watch)
    return Concept(state.vectors.detach())


def fit(
    known: Tensor,
    model: Model,
    translating: Translating,
    *,
    word: str = "",
    seed: int = 0,
    run: Run | None = None,
    cache: Path | None = None,
    watch: Learning = lambda at, count, loss: None,
) -> LearningState:
    """Fit a concept's vectors to the latents [C, H, W] of a picture, alone in a text, at all levels of noise.

    ``L = MSE(eps', eps) + l1 |x0' - z_0|``, by AdamW. word: where the vectors begin; random words if empty. Every
    ``patience`` rounds the loss is taken at the same levels and noises; where it has not fallen, learning ends. cache:
    a folder where learning goes on that was interrupted, and where what was finished is found again. Raises
    CapabilityError where :func:`check_learns` does.
    """
    check_learns(model)
    counted = Run() if run is None else run
    generator = torch.Generator("cpu").manual_seed(seed)
    state = LearningState.begin(_begin(model, translating.vectors, word, generator), translating.rate, generator)
    kept = None if cache is None else LearningFolder.of(cache, known, model, translating, word, seed)
    if kept is not None:
        kept.restore(state)
    while state.rounds < translating.rounds and not state.finished:
        total, began, rows = 0.0, time.perf_counter(), counted.rows
        for _ in range(translating.batch):
            with torch.enable_grad():
                loss = _loss(state.vectors, known, model, translating, generator, counted) / translating.batch
                (slope,) = torch.autograd.grad(loss, [state.vectors])
            state.vectors.grad = slope if state.vectors.grad is None else state.vectors.grad + slope
            total += float(loss.detach())
        if not math.isfinite(total):
            raise NotFiniteError(f"The loss is NaN or infinite in round {state.rounds + 1} of {translating.rounds}.")
        state.optimiser.step()
        state.optimiser.zero_grad()
        state.rounds += 1
        if translating.patience and state.rounds % translating.patience == 0 and state.rounds < translating.rounds:
            state.judge(_judged(state.vectors, known, model, translating, seed, counted))
        state.rows += counted.rows - rows
        state.seconds += time.perf_counter() - began
        if kept is not None and (state.rounds % EVERY == 0 or state.finished or state.rounds == translating.rounds):
            kept.write(state)
        watch(state.rounds - 1, translating.rounds, total)
    return state


def _judged(vectors: Tensor, known: Tensor, model: Model, translating: Translating, seed: int, counted: Run) -> float:
    """The mean loss at levels that are spread evenly, always the same with the same noises."""
    generator = torch.Generator("cpu").manual_seed(seed)
    levels = model.schedule.trained()
    chosen = [levels[(2 * k + 1) * len(levels) // (2 * LEVELS)] for k in range(LEVELS)]
    with torch.no_grad():
        losses = [_loss(vectors, known, model, translating, generator, counted, step) for step in chosen]
    return float(torch.stack(losses).mean())


def _begin(model: Model, count: int, word: str, generator: torch.Generator) -> Tensor:
    """[N, D]: the vectors of a word's tokens, each as often as needed; or of tokens drawn at random."""
    text: Any = model.text
    table = table_of(text).weight.detach().float()
    ids = text.words(word) if word else []
    if ids:
        chosen = [ids[k * len(ids) // count] for k in range(count)]
    else:
        chosen = torch.randint(0, len(table), (count,), generator=generator).tolist()
    return table[chosen].clone()


def _loss(
    vectors: Tensor,
    known: Tensor,
    model: Model,
    translating: Translating,
    generator: torch.Generator,
    counted: Run,
    step: Step | None = None,
) -> Tensor:
    """At a level of noise; at one that is drawn where none is given."""
    step = _level(model, generator) if step is None else step
    noise = torch.randn(known.shape, generator=generator).to(known)
    z = step.alpha * known + step.s * noise
    heard, _ = said(model.text, vectors)  # type: ignore[arg-type]
    view = View(
        name="concept",
        net=model.net,
        branches={"cond": Conditioning(tokens=(Tokens(heard),))},
        guide=Single(),
        weight=torch.ones(known.shape[-2:], device=known.device),
    )
    run = Run()
    x0 = predict(Plan(views=(view,)), z[None], step, run)[0]
    counted.forwards += run.forwards
    counted.rows += run.rows
    return F.mse_loss((z - step.alpha * x0) / step.s, noise) + translating.l1 * F.l1_loss(x0, known)


def _level(model: Model, generator: torch.Generator) -> Step:
    """A level of noise, drawn evenly from the schedule that the network was trained with."""
    levels = model.schedule.trained()
    return levels[int(torch.randint(0, len(levels), (1,), generator=generator))]
