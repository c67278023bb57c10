"""Learning a concept from one picture: multi-concept inversion (VCT, arXiv 2307.14352, section 3.2)."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.guidance import Single
from cloisonne.core.plan import Conditioning, Plan, Tokens, View
from cloisonne.core.predict import Run, predict
from cloisonne.core.step import Step
from cloisonne.errors import CapabilityError
from cloisonne.methods.vct import Translating
from cloisonne.models.concept import Concept, said, table_of, width_of
from cloisonne.models.model import Model

Learning = Callable[[int, int, float], None]
"""(round, rounds, loss); may raise Cancelled."""


def learn(
    known: Tensor,
    model: Model,
    translating: Translating,
    *,
    word: str = "",
    seed: int = 0,
    run: Run | None = None,
    watch: Learning = lambda at, count, loss: None,
) -> Concept:
    """Fit a concept's vectors to the latents [C, H, W] of a picture, alone in a text, at all levels of noise.

    ``L = MSE(eps', eps) + l1 |x0' - z_0|``, by AdamW. word: where the vectors begin; random words if empty. Raises
    CapabilityError for models of two text encoders, and of networks that ask for more than text.
    """
    width_of(model.text)
    if model.spec.extra_channels:
        raise CapabilityError(
            f'The model "{model.name}" is one for inpainting, which learns no concepts; load a plain one, or use the '
            'preset "fast".'
        )
    counted = Run() if run is None else run
    generator = torch.Generator("cpu").manual_seed(seed)
    vectors = _begin(model, translating.vectors, word, generator).requires_grad_(True)
    optimiser = torch.optim.AdamW([vectors], lr=translating.rate)
    for at in range(translating.rounds):
        total = 0.0
        for _ in range(translating.batch):
            with torch.enable_grad():
                loss = _loss(vectors, known, model, translating, generator, counted) / translating.batch
                (slope,) = torch.autograd.grad(loss, [vectors])
            vectors.grad = slope if vectors.grad is None else vectors.grad + slope
            total += float(loss.detach())
        optimiser.step()
        optimiser.zero_grad()
        watch(at, translating.rounds, total)
    return Concept(vectors.detach())


def _begin(model: Model, count: int, word: str, generator: torch.Generator) -> Tensor:
    """[N, D]: the vectors of a word's tokens, each as often as needed; or of tokens drawn at random."""
    text: Any = model.text
    table = table_of(text).weight.detach().float()
    ids = text.tokenizer(word, add_special_tokens=False).input_ids if word else []
    if ids:
        chosen = [ids[k * len(ids) // count] for k in range(count)]
    else:
        chosen = torch.randint(0, len(table), (count,), generator=generator).tolist()
    return table[chosen].clone()


def _loss(
    vectors: Tensor, known: Tensor, model: Model, translating: Translating, generator: torch.Generator, counted: Run
) -> Tensor:
    step = _level(model, generator)
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
    levels = model.schedule.steps(len(model.schedule.alphas), ends_clean=False)
    return levels[int(torch.randint(0, len(levels), (1,), generator=generator))]
