"""MRGD's losses on the predicted clean pictures (Li et al., AAAI 2024, section "region-aware guidance").

With a map M of where CLIPSeg finds a region's words, on the grid of latents, and the region's box B, of canvas b:

    L_RS = sum_b sum_i mean(M_bi (1 - B_i))                     seen outside of its region
    L_IS = cross-entropy of the maps of both canvases, region by region
    L_IP = mean of (I_S - I_T)^2 m, and of the latents' m'      what lies in no edited region changes
    L_gone = sum_i mean(M_i B_i)                                what was removed is still seen (ours)
    L_seen = sum_i mean((1 - M_i) B_i)                          what is new is not seen in its region (ours)

The network is not differentiated: with g = 0.18215 dL/dx0, ``eps' = eps + s g`` is ``x0' = x0 - s^2 / alpha g``. The
published weights belong to 64 x 64 latents of 4 channels; a mean over fewer latents has larger derivatives, and moves
the estimate in the same proportion when it is divided by their number.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.run import Run
from cloisonne.core.step import ALWAYS, Interval, Step

LATENT = 0.18215
"""Stable Diffusion's scale of latents, in which the weights are targets."""
PUBLISHED = 4 * 64 * 64
TEMPERATURE = 0.07


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Weights as published, for Stable Diffusion; ``methods/mrgd/method.py`` documents the other fields."""

    loss_rs: float = 0.0
    loss_is: float = 0.0
    loss_ip: float = 0.0
    loss_gone: float = 0.0
    loss_seen: float = 0.0
    contrast: str = "infonce"
    normalise: bool = True
    gain: float = 1.0
    limit: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Wanted:
    """What a region shows on each canvas. box: [H, W], 1 in it. before, after: words to look for, "" for none.

    home: [H, W], 1 where the words may be seen: its box, and those of regions that say the same.
    """

    name: str
    box: Tensor
    home: Tensor
    before: str
    after: str


Prompts = Mapping[tuple[str, str], str]
"""Segmentation prompts by (side, region) that replace the region's own phrase; sides are "before" and "after"."""


@runtime_checkable
class Keywords(Protocol):
    """Which prompts replace the regions' phrases: an immutable value, whose choices are in the run."""

    def prompts(self, step: Step, run: Run) -> Prompts:
        """The prompts of a step."""
        ...

    def in_scene(self, scene: str) -> Self:
        """The same for streams named ``scene/stream``."""
        ...


Decode = Callable[[Tensor], Tensor]
"""Latents [B, C, H, W] to pictures [B, 3, h, w] in about [-1, 1], with a gradient."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionEnergy:
    """A refine: the estimate of the canvas after, a step down the losses; see the module.

    source, target: names of the canvases before and after. preserved: [H, W] in [0, 1], where L_IP counts. segmenter: a
    ``models.adapters.clipseg.Segmenter``. keywords: prompts that replace the regions' phrases, None for none. A run
    keeps the encoded prompts.
    """

    source: str
    target: str
    wanted: Sequence[Wanted]
    preserved: Tensor
    weights: Losses
    segmenter: Any
    decode: Decode
    when: Interval = ALWAYS
    keywords: Keywords | None = None

    @property
    def streams(self) -> tuple[str, ...]:
        """Both canvases where they are compared, else the target alone."""
        return (self.source, self.target) if self.weights.loss_is or self.weights.loss_ip else (self.target,)

    def __call__(self, x0: Tensor, z: Tensor, step: Step, run: Run) -> Tensor:
        """x0 [1 or 2, C, H, W], the target's estimate, which is the last, moved."""
        if step.alpha == 0:
            return x0
        with torch.enable_grad():
            free = x0[-1].detach().clone().requires_grad_(True)
            loss = self.loss(torch.cat([x0[:-1].detach(), free[None]]), step, run)
            if not loss.requires_grad:
                return x0
            (slope,) = torch.autograd.grad(loss, [free])
        change = -(step.s**2 / step.alpha) * LATENT * self.weights.gain * slope * (free.numel() / PUBLISHED)
        if self.weights.limit > 0:
            most = self.weights.limit * x0[-1].norm()
            change = change * (most / change.norm().clamp_min(1e-12)).clamp(max=1)
        return torch.cat([x0[:-1], (x0[-1] + change)[None]])

    def loss(self, x0: Tensor, step: Step, run: Run) -> Tensor:
        """The sum of the losses that count at a step; of two canvases the first has no gradient."""
        weights, left = self.weights, step.count - 1 - step.index
        compares = bool(weights.loss_is) and left <= 0.7 * step.count
        keeps = bool(weights.loss_ip) and left <= 0.8 * step.count
        prompts: Prompts = {} if self.keywords is None else self.keywords.prompts(step, run)
        after = self.decode(x0[-1:])
        before = self.decode(x0[:1]) if compares or keeps else None
        total = x0.new_zeros(())
        if weights.loss_rs or weights.loss_gone or weights.loss_seen or compares:
            maps, gone = self._sides(after, prompts, run)
            for w in self.wanted:
                if w.name in maps:
                    total = total + weights.loss_rs * (maps[w.name] * (1 - w.home)).mean()
                    if w.after != w.before:
                        total = total + weights.loss_seen * ((1 - maps[w.name]) * w.box).mean()
                if w.name in gone:
                    total = total + weights.loss_gone * (gone[w.name] * w.box).mean()
            if compares and before is not None:
                total = total + weights.loss_is * self._contrast(before, maps, prompts, run)
        if keeps and before is not None:
            amount = weights.loss_ip if left > 0.5 * step.count else weights.loss_ip / 2
            total = total + amount * preserved_loss(torch.cat([before, after]), x0 / LATENT, self.preserved)
        return total

    def _sides(self, after: Tensor, prompts: Prompts, run: Run) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Where the words after are found in the picture after, and where those of what was removed are."""
        targets = [(w.name, prompts.get(("after", w.name), w.after)) for w in self.wanted if w.after]
        gone = [(w.name, w.before) for w in self.wanted if w.before and not w.after and self.weights.loss_gone]
        found = self._maps(after, [text for _, text in (*targets, *gone)], run)
        names = [name for name, _ in (*targets, *gone)]
        return dict(zip(names[: len(targets)], found, strict=False)), dict(
            zip(names[len(targets) :], found[len(targets) :], strict=True)
        )

    def _contrast(self, before: Tensor, after: Mapping[str, Tensor], prompts: Prompts, run: Run) -> Tensor:
        """L_IS of the regions with a text on both canvases; nothing where these are fewer than two."""
        shared = [w for w in self.wanted if w.before and w.name in after]
        if len(shared) < 2:
            return before.new_zeros(())
        own = self._maps(before, [prompts.get(("before", w.name), w.before) for w in shared], run)
        theirs = [after[w.name] for w in shared]
        rows = [torch.stack([one.flatten() for one in maps]) for maps in (own, theirs)]
        return contrast(rows[0], rows[1], self.weights.contrast)

    def _maps(self, picture: Tensor, texts: Sequence[str], run: Run) -> list[Tensor]:
        """[H, W] in [0, 1] for each text: where it is found in a picture [1, 3, h, w]."""
        if not texts:
            return []
        embedded = [
            run.state((RegionEnergy, text), lambda own=text: self.segmenter.encode_texts([own])[0]) for text in texts
        ]
        seen = self.segmenter.image_features(picture, normalise=self.weights.normalise)
        logits = self.segmenter.logits(seen, torch.stack(embedded))
        return list(F.adaptive_max_pool2d(logits[:, None], self.preserved.shape)[:, 0].sigmoid())

    def in_scene(self, scene: str) -> "RegionEnergy":
        """The same between the scene's streams."""
        keywords = None if self.keywords is None else self.keywords.in_scene(scene)
        return replace(self, source=f"{scene}/{self.source}", target=f"{scene}/{self.target}", keywords=keywords)

    def __repr__(self) -> str:
        return f'RegionEnergy of {len(self.wanted)} regions on "{self.target}", {self.when}'


def contrast(before: Tensor, after: Tensor, mode: str) -> Tensor:
    """L_IS of maps [n, pixels]: each region's map is nearest to its own on the other canvas.

    "official": logits divided by their row's sum, which cancels the temperature, so that for n regions the loss only
    goes from ln n to ln(e + n - 1) - 1. "infonce" (ours): cosines over 0.07.
    """
    if mode == "official":
        logits = F.normalize(before @ after.T / TEMPERATURE, p=1, dim=1)
    else:
        logits = F.normalize(before, dim=1) @ F.normalize(after, dim=1).T / TEMPERATURE
    return F.cross_entropy(logits, torch.arange(len(before), device=before.device))


def preserved_loss(pictures: Tensor, latents: Tensor, preserved: Tensor) -> Tensor:
    """L_IP of both canvases' pictures [2, 3, h, w] and latents [2, C, H, W], where ``preserved`` [H, W] is 1;
    means over all elements."""
    wide = F.interpolate(preserved[None, None], pictures.shape[-2:], mode="bilinear", align_corners=False)[0]
    seen = ((pictures[0] - pictures[1]) * wide).square().mean()
    return seen + ((latents[0] - latents[1]) * preserved).square().mean()
