"""The boost of phrases by the attention of a model: ``region_boost="auto"``."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cloisonne.core.attention.layout_guidance import boosted_attention, is_boosted
from cloisonne.core.guidance import Single
from cloisonne.core.plan import AttentionEdit, Call, Plan, Site, Step
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.errors import CapabilityError
from cloisonne.models.model import Model

SHARE = 0.97
"""The mean share of attention within a region that its phrase gets. Chosen in the built-in family, whose default boost
gives it (``benchmarks/phrase_share.py``)."""

PROBE = 2.0
"""The boost at which attention is read; a boost of 1 would leave out the repetition of the phrase."""

LEAST, MOST = 1.0, 1e5
"""Bounds of the boost."""


class PhraseOdds(AttentionEdit):
    """Reads the odds of boosted tokens in the softmax of their text; changes nothing.

    ``odds`` of a run has a tensor [heads, pixels] for each text and layer, of the pixels that attend to the text most.
    """

    def touches(self, site: Site, call: Call) -> bool:
        return site.cross

    def wants_probs(self, site: Site, call: Call) -> bool:
        return True

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        shares = call.texts.shares(site.grid)
        for text, weight, (begin, end) in zip(call.texts.texts, shares, call.texts.spans(), strict=True):
            inside = weight > 0.99 * weight.max()
            if not text.counts or not weight.max():
                continue
            own = p[text.row, :, inside, begin:end].float()
            share = boosted_attention(own, text)
            self.odds(call.run).append(share / (own.sum(-1) - share).clamp_min(1e-6))
        return p

    def odds(self, run: Run) -> list[Tensor]:
        """What it read in a run."""
        return run.state(self, list)

    def in_scene(self, scene: str) -> "PhraseOdds":
        return self


def phrase_odds(plan: Plan, steps: Sequence[Step], model: Model) -> Tensor:
    """[N]: the odds of phrases by pixel, head, layer and region, in one prediction of noise at their first step.

    plan: of a scene with the boost ``PROBE``. Empty where no phrase is boosted. Raises CapabilityError where the
    network has no cross-attention.
    """
    views = [view for view in plan.views if is_boosted(view)]
    found = next(((view, step) for view in views for step in steps if step in view.when), None)
    if found is None:
        return torch.zeros(0)
    view, step = found
    grid = (view.weight.shape[0], view.weight.shape[1])
    if not any(site.cross for site in model.net.sites(grid)):
        raise CapabilityError(
            f'region_boost is "auto", but the network of "{model.name}" has no cross-attention to choose it by; '
            "give a number."
        )
    noise = torch.randn(1, model.vae.channels, *grid, generator=torch.Generator().manual_seed(0))
    alone = replace(view, guide=Single(), box=None, weight=torch.ones_like(view.weight))
    run, reader = Run(), PhraseOdds()
    with torch.no_grad():
        predict(Plan(views=(alone,), edits=(reader,)), (step.s * noise).to(model.device), step, run)
    return torch.cat([odds.flatten() for odds in reader.odds(run)])


def mean_share(odds: Tensor, factor: float) -> float:
    """The mean share of attention, in [0, 1], where the odds of phrases are multiplied by a factor."""
    return float((factor * odds / (1 + factor * odds)).mean())


def boost_for(odds: Tensor, share: float = SHARE) -> float:
    """The boost that gives phrases a mean share of attention, to two digits, within ``LEAST`` and ``MOST``.

    odds: [N] of :func:`phrase_odds`, read at the boost ``PROBE``.
    """
    low, high = math.log(LEAST), math.log(MOST)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_share(odds, math.exp(middle) / PROBE) < share else (low, middle)
    return float(f"{math.exp(low):.2g}")


def boosts(plan: Plan) -> bool:
    """Whether any phrase of a plan is boosted."""
    return any(map(is_boosted, plan.views))
