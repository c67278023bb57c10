"""Attention control between two canvases (prompt-to-prompt, Hertz et al., arXiv 2208.01626) without attention maps.

Every edit of that paper is linear in the values, so that none needs the probabilities (ours): with source q_s, k_s,
target q_t, k_t, v_t, a map M [S, T] from the target's words to the source's, and shares a_j of each target word,

    replace    Attn(q_s, k_s, M v_t)
    refine     Attn(q_s, k_s, M (a v_t)) + Attn(q_t, k_t, (1 - a) v_t)
    reweight   v_j -> c_j v_j before either
    self       Attn(q_s, k_s, v_t), in one softmax with the source's own: Attn(q_s, k_s, [v_s | v_t])

Rows are paired by the name of their view and branch: the same view on stream ``source`` and on stream ``target``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.plan import AttentionEdit, AttentionTerm, Call, Row, Site
from cloisonne.core.step import ALWAYS, Interval, Step

Ramp = Callable[[Step], float]
"""How much of an edit counts at a step, in [0, 1]."""


@dataclass(frozen=True)
class Until:
    """All of it for the first fraction of the steps, then nothing: the paper's window."""

    stop: float

    def __call__(self, step: Step) -> float:
        return 1.0 if step.progress < self.stop else 0.0


@dataclass(frozen=True)
class Fading:
    """Falling evenly from all to nothing over the first fraction of the steps (MRGD)."""

    stop: float

    def __call__(self, step: Step) -> float:
        return max(0.0, 1.0 - step.progress / self.stop) if self.stop > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Between(AttentionEdit):
    """What edits between two streams have in common. view: only rows of this view (None = of all)."""

    source: str
    target: str
    view: str | None = None
    branches: tuple[str, ...] = ("cond",)

    def pairs(self, call: Call) -> list[tuple[int, int]]:
        """(source, target) of each pair of rows in the batch."""
        places = {row: i for i, row in enumerate(call.rows)}
        return [
            (places[other], i)
            for row, i in places.items()
            if row.stream == self.target
            and row.branch in self.branches
            and self.view in (None, row.view)
            and (other := Row(row.view, self.source, row.branch)) in places
        ]

    def in_scene(self, scene: str) -> Self:
        """The same between the scene's streams."""
        return replace(self, source=f"{scene}/{self.source}", target=f"{scene}/{self.target}")


@dataclass(frozen=True, kw_only=True)
class ShareSelf(Between):
    """The target takes the source's self-attention probabilities, on grids up to ``most`` pixels, while ``when``."""

    when: Interval = ALWAYS
    most: int = 1 << 30

    def touches(self, site: Site, call: Call) -> bool:
        """At self-attention in its part of the steps."""
        small = site.grid[0] * site.grid[1] <= self.most
        return not site.cross and small and call.step in self.when and bool(self.pairs(call))

    def query_key_donors(self, site: Site, call: Call) -> list[tuple[int, int]]:
        """All pairs."""
        return self.pairs(call)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReuseBackground(AttentionEdit):
    """The target computes no image token outside of a mask: its others attend to the source's keys and values of these
    (KV-Edit, Zhu et al., ICCV 2025, arXiv 2502.17363, section 3.2), and its estimate there is the source's.

    KV-Edit stores those of every step of an inversion; here both canvases are of one step and one pass, so that those
    of one step are stored. For networks of image tokens.

    mask: [H, W], above 0 where the target is computed. Where it is everywhere, nothing is reused.
    """

    source: str
    target: str
    mask: Float[Tensor, "H W"]

    def touches(self, site: Site, call: Call) -> bool:
        """No attention of a UNet."""
        return False

    def pairs(self, call: Call) -> list[tuple[int, int]]:
        """(source, target) of each row of the target: the source's branch of the same name, else its "cond"."""
        places = {row: i for i, row in enumerate(call.rows)}
        found: list[tuple[int, int]] = []
        for row, i in places.items():
            others = [Row(row.view, self.source, branch) for branch in (row.branch, "cond")]
            source = next((places[other] for other in others if other in places), None)
            if row.stream == self.target and source is not None:
                found.append((source, i))
        return found

    def in_scene(self, scene: str) -> Self:
        """The same between the scene's streams."""
        return replace(self, source=f"{scene}/{self.source}", target=f"{scene}/{self.target}")


@dataclass(frozen=True, kw_only=True)
class ShareFeatures(Between):
    """The target's decoder adds what the source's residual blocks do, while ``when`` (plug-and-play, Tumanyan et al.,
    CVPR 2023, arXiv 2211.12572, section 4, which does so in one block)."""

    when: Interval = ALWAYS

    def touches(self, site: Site, call: Call) -> bool:
        """No attention."""
        return False

    def features(self, call: Call) -> list[tuple[int, int]]:
        """All pairs, in its part of the steps."""
        return self.pairs(call) if call.step in self.when else []


@dataclass(frozen=True, kw_only=True, eq=False)
class ShareWords(Between):
    """The target takes the source's cross-attention probabilities, token by token through ``mapping``.

    mapping: [S, T] >= 0, the share of the source's S tokens in the probability of each of the target's T; a column of
    zeros keeps the target's own. weights: [T] or None, factors of the target's tokens (reweighting). ramp: the weight
    of the edit at a step.
    """

    mapping: Tensor
    weights: Tensor | None = None
    ramp: Ramp = Until(0.8)
    when: Interval = ALWAYS

    def touches(self, site: Site, call: Call) -> bool:
        """At cross-attention, as long as anything of it counts."""
        counts = self.weights is not None or self.ramp(call.step) > 0
        return site.cross and counts and call.step in self.when and bool(self.pairs(call))

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """Values of the part that follows the source; :meth:`terms` adds the part that does not."""
        amount = self.ramp(call.step)
        targets = [t for _, t in self.pairs(call)]
        own = self._weighed(v[targets])
        if amount > 0:
            own = torch.einsum("st,bhtd->bhsd", amount * self.mapping.to(v), own)
        v = v.clone()
        v[targets] = _fit(own, v.shape[2])
        return q, k, v

    def query_key_donors(self, site: Site, call: Call) -> list[tuple[int, int]]:
        """All pairs, as long as the edit counts."""
        return self.pairs(call) if self.ramp(call.step) > 0 else []

    def terms(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> Sequence[AttentionTerm]:
        """What the target's own attention adds: words without a counterpart, and what the ramp has left."""
        amount = self.ramp(call.step)
        if amount == 0:
            return ()
        targets = [t for _, t in self.pairs(call)]
        left = 1 - amount * (self.mapping.sum(0) > 0).to(v)
        if not bool((left > 0).any()):
            return ()
        values = self._weighed(v[targets])
        values = values * _fit(left[:, None], values.shape[2])
        return (AttentionTerm(tuple(targets), q[targets], k[targets], values),)

    def _weighed(self, values: Tensor) -> Tensor:
        """[B, heads, T, d]: the target's values, as long as the mapping and by the words' weights."""
        count = self.mapping.shape[1]
        values = values[:, :, :count]
        return values if self.weights is None else values * self.weights.to(values)[:, None]


def aligned(source: Sequence[int], target: Sequence[int]) -> Tensor:
    """[S, T]: which of the target's tokens is which of the source's, 1 or 0, by the longest alignment.

    Needleman and Wunsch with gap 0, match 1, mismatch -1, as the paper's refinement has it; equal tokens only.
    """
    best = [[0] * (len(target) + 1) for _ in range(len(source) + 1)]
    for i, a in enumerate(source):
        for j, b in enumerate(target):
            best[i + 1][j + 1] = max(best[i][j] + (1 if a == b else -1), best[i][j + 1], best[i + 1][j])
    mapping = torch.zeros(len(source), len(target))
    i, j = len(source), len(target)
    while i and j:
        if source[i - 1] == target[j - 1] and best[i][j] == best[i - 1][j - 1] + 1:
            mapping[i - 1, j - 1] = 1
            i, j = i - 1, j - 1
        elif best[i][j] == best[i - 1][j]:
            i -= 1
        else:
            j -= 1
    return mapping


def by_position(mapped: Mapping[int, Sequence[int]], source: int, target: int) -> Tensor:
    """[source, target]: the identity, but for named tokens of the target, which share those of the source evenly."""
    mapping = torch.zeros(source, target)
    mapping[range(min(source, target)), range(min(source, target))] = 1
    for word, places in mapped.items():
        mapping[:, word] = 0
        for place in places:
            mapping[place, word] = 1 / len(places)
    return mapping


def _fit(values: Tensor, count: int) -> Tensor:
    """Values [..., n, d] cut or padded with zeros to ``count`` tokens."""
    missing = count - values.shape[-2]
    return values[..., :count, :] if missing <= 0 else F.pad(values, (0, 0, 0, missing))
