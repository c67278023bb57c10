"""Layout guidance: before a step the canvas follows the gradient of its phrases' attention in their regions.

After BoxDiff (arXiv 2307.10816) and backward guidance (Chen et al., arXiv 2304.03373). With the method bounded the
attention of other pixels is masked already, so the loss is that of the inside alone: the mean over regions, layers,
heads and pixels of (1 - share)^2, where the share is that of the phrase among the attention to the region's text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cloisonne.core.attention.call import AttentionEdit, Call, Site
from cloisonne.core.attention.text_sequences import TextSequence
from cloisonne.core.collate import collate, passes
from cloisonne.core.conditioning import Conditioning
from cloisonne.core.guidance import Single
from cloisonne.core.plan import Plan, View
from cloisonne.core.run import Run
from cloisonne.core.step import Interval, Step

EARLY = Interval(0.0, 0.5)
"""The steps in which the layout forms."""


@dataclass(frozen=True)
class LayoutGuidance:
    """Moves the canvases of a scene, once before each step of ``when``, by one forward and backward pass.

    length: of the move, relative to that of the canvas. scene: the prefix of its streams in a merged plan.
    """

    length: float
    when: Interval = EARLY
    scene: str = ""

    def views(self, plan: Plan, step: Step) -> tuple[View, ...]:
        """The views with boosted phrases, their conditional branches alone."""
        if self.length == 0 or step not in self.when:
            return ()
        own = (view for view in plan.views if view.scene == self.scene and step in view.when and is_boosted(view))
        return tuple(replace(view, guide=Single()) for view in own)

    def __call__(self, plan: Plan, z: Tensor, step: Step, run: Run) -> Tensor:
        views = self.views(plan, step)
        if not views:
            return z
        # Keys and values that are computed with gradients are cached apart from the others.
        apart = run.state(self, lambda: Run(parent=run, scenes=run.scenes))
        with torch.enable_grad():
            canvases = z.detach().requires_grad_()
            gradient = torch.autograd.grad(_missing_attention(plan, views, canvases, step, apart), canvases)[0]
        return z - self.length * gradient * _norm(z) / _norm(gradient).clamp_min(torch.finfo(z.dtype).tiny)

    def in_scene(self, scene: str) -> "LayoutGuidance":
        return replace(self, scene=scene)


def _norm(canvases: Tensor) -> Tensor:
    """[S, 1, 1, 1] of canvases [S, C, H, W]."""
    return (canvases**2).sum(dim=(1, 2, 3), keepdim=True).sqrt()


def is_boosted(view: View) -> bool:
    """Whether tokens of the view's conditional text count several times."""
    branch = view.branches.get("cond")
    return isinstance(branch, Conditioning) and any(piece.counts for piece in branch.tokens)


def boosted_attention(p: Tensor, text: TextSequence) -> Tensor:
    """[..., Q]: the attention to the tokens of a text that count several times, of p [..., Q, N] to all of them."""
    return torch.stack([p[..., start:stop].sum(-1) for start, stop, _ in text.counts]).sum(0)


def _missing_attention(plan: Plan, views: Sequence[View], z: Tensor, step: Step, run: Run) -> Tensor:
    """The loss of canvases z [S, C, H, W] that record gradients."""
    reader = _PhraseAttention()
    for batch in passes(views, step, per_scene=True):
        windows = [request.view.crop(z[plan.streams.index(request.view.stream)]) for request in batch]
        requests = [
            request.with_inpaint_context(torch.zeros_like(window))
            for request, window in zip(batch, windows, strict=True)
        ]
        requests[0].view.net(collate(requests, windows, step, (reader,), run))
        run.count(request.view.scene for request in requests)
    found = run.state(reader, list[Tensor])
    loss = torch.stack(found).mean() if found else z.sum() * 0
    found.clear()
    return loss


@dataclass(frozen=True)
class _PhraseAttention(AttentionEdit):
    """Reads (1 - share)^2 of each text and layer, averaged over heads and the region's pixels; changes nothing."""

    def touches(self, site: Site, call: Call) -> bool:
        return site.cross

    def wants_probs(self, site: Site, call: Call) -> bool:
        return True

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        shares, found = call.texts.shares(site.grid), call.run.state(self, list[Tensor])
        for text, weight, (begin, end) in zip(call.texts.texts, shares, call.texts.spans(), strict=True):
            if not text.counts or not weight.max():
                continue
            own = p[text.row, :, :, begin:end].float()
            lack = (1 - boosted_attention(own, text) / own.sum(-1).clamp_min(1e-6)) ** 2
            found.append((lack.mean(0) * weight).sum() / weight.sum())
        return p

    def in_scene(self, scene: str) -> "_PhraseAttention":
        return self
