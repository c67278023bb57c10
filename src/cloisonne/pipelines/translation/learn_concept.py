"""Learn a concept from one image: multi-concept inversion (VCT, arXiv 2307.14352, section 3.2)."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.guidance import Single
from cloisonne.core.plan import Conditioning, Plan, Tokens, View
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.core.step import Step
from cloisonne.errors import CapabilityError, NotFiniteError
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Model
from cloisonne.models.text.learned_concept import encode_concept, table_of, width_of
from cloisonne.pipelines.translation.checkpoint import LearningFolder, LearningState
from cloisonne.scene.conditions.translation_presets import Translating

Learning = Callable[[int, int, float], None]
"""Called with (finished training steps, all of them, loss); may raise Cancelled."""
EVERY = 10
"""Training steps between two checkpoints."""
LEVELS = 16
"""Noise levels at which the loss is evaluated for early stopping."""


def check_learns(model: Model) -> None:
    """Raise CapabilityError for models with two text encoders, and for inpainting networks."""
    width_of(model.text)
    if model.spec.extra_channels:
        raise CapabilityError(
            f'The model "{model.name}" ({FAMILIES[model.family].title} for inpainting) cannot learn concepts; load a '
            'text-to-image model, or use the preset "fast".'
        )


def fit(
    known: Tensor,
    model: Model,
    translating: Translating,
    *,
    word: str = "",
    seed: int = 0,
    run: Run | None = None,
    cache: Path | None = None,
    watch: Learning = lambda step, total, loss: None,
) -> LearningState:
    """Fit a concept's vectors, as the whole text, to the latents [C, H, W] of an image at all noise levels.

    ``L = MSE(eps', eps) + l1 |x0' - z_0|``, by AdamW. Every ``patience`` training steps the loss is evaluated at fixed
    noise levels with fixed noise; where it has not fallen, learning ends.

    word: the word whose embedding the vectors start at; random tokens if empty. cache: a folder for checkpoints: an
    interrupted run resumes, a finished concept is reused. Raises CapabilityError where :func:`check_learns` does, and
    NotFiniteError where the loss is NaN or infinite.
    """
    check_learns(model)
    counted = Run() if run is None else run
    generator = torch.Generator("cpu").manual_seed(seed)
    state = LearningState.begin(_begin(model, translating.vectors, word, generator), translating.rate, generator)
    checkpoint = None if cache is None else LearningFolder.of(cache, known, model, translating, word, seed)
    if checkpoint is not None:
        checkpoint.restore(state)
    while state.rounds < translating.rounds and not state.finished:
        total, began, rows = 0.0, time.perf_counter(), counted.rows
        for _ in range(translating.batch):
            with torch.enable_grad():
                loss = _loss(state.vectors, known, model, translating, generator, counted) / translating.batch
                (gradient,) = torch.autograd.grad(loss, [state.vectors])
            state.vectors.grad = gradient if state.vectors.grad is None else state.vectors.grad + gradient
            total += float(loss.detach())
        if not math.isfinite(total):
            raise NotFiniteError(
                f"The loss is NaN or infinite in training step {state.rounds + 1} of {translating.rounds}."
            )
        state.optimiser.step()
        state.optimiser.zero_grad()
        state.rounds += 1
        if translating.patience and state.rounds % translating.patience == 0 and state.rounds < translating.rounds:
            state.judge(_evaluated(state.vectors, known, model, translating, seed, counted))
        state.rows += counted.rows - rows
        state.seconds += time.perf_counter() - began
        last = state.finished or state.rounds == translating.rounds
        if checkpoint is not None and (state.rounds % EVERY == 0 or last):
            checkpoint.write(state)
        watch(state.rounds, translating.rounds, total)
    return state


def most_rows(translating: Translating) -> int:
    """Batch rows of learning a concept, at most: it may end earlier."""
    evaluations = (translating.rounds - 1) // translating.patience if translating.patience and translating.rounds else 0
    return translating.rounds * translating.batch + LEVELS * evaluations


def embedded(text: Any, words: str) -> Tensor:
    """The embeddings [N, D] of the tokens of words."""
    return table_of(text).weight.detach().float()[text.token_ids(words)]


def words_of(
    known: Tensor, model: Model, candidates: Sequence[str], translating: Translating, *, seed: int = 0, run: Run
) -> str:
    """Of candidates, the words under which the loss of latents [C, H, W] is least: ``LEVELS`` rows for each.

    A denoising loss classifies an image (Li et al., arXiv 2303.16203). Raises CapabilityError where
    :func:`check_learns` does.
    """
    check_learns(model)
    losses = [_evaluated(embedded(model.text, words), known, model, translating, seed, run) for words in candidates]
    return candidates[losses.index(min(losses))]


def _evaluated(
    vectors: Tensor, known: Tensor, model: Model, translating: Translating, seed: int, counted: Run
) -> float:
    """Mean loss at evenly spaced noise levels, always with the same noise."""
    generator = torch.Generator("cpu").manual_seed(seed)
    levels = model.schedule.trained()
    chosen = [levels[(2 * k + 1) * len(levels) // (2 * LEVELS)] for k in range(LEVELS)]
    with torch.no_grad():
        losses = [_loss(vectors, known, model, translating, generator, counted, step) for step in chosen]
    return float(torch.stack(losses).mean())


def _begin(model: Model, count: int, word: str, generator: torch.Generator) -> Tensor:
    """Initial vectors [N, D]: embeddings of a word's tokens, repeated as needed, or of random tokens."""
    text: Any = model.text
    table = table_of(text).weight.detach().float()
    ids = text.token_ids(word) if word else []
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
    """The loss at one noise level; at a random one if ``step`` is None."""
    step = _level(model, generator) if step is None else step
    noise = torch.randn(known.shape, generator=generator).to(known)
    z = step.alpha * known + step.s * noise
    encoded, _ = encode_concept(model.text, vectors)  # type: ignore[arg-type]
    view = View(
        name="concept",
        net=model.net,
        branches={"cond": Conditioning(tokens=(Tokens(encoded),))},
        guide=Single(),
        weight=torch.ones(known.shape[-2:], device=known.device),
    )
    x0 = predict(Plan(views=(view,)), z[None], step, counted.part())[0]
    return F.mse_loss((z - step.alpha * x0) / step.s, noise) + translating.l1 * F.l1_loss(x0, known)


def _level(model: Model, generator: torch.Generator) -> Step:
    """A noise level, drawn uniformly from the training schedule."""
    levels = model.schedule.trained()
    return levels[int(torch.randint(0, len(levels), (1,), generator=generator))]
