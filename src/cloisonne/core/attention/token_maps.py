"""Maps of the attention to tokens, read during sampling."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.attention.regional import softmax_by_text
from cloisonne.core.plan import AttentionEdit, Call, Site
from cloisonne.core.run import AttentionReadings, Run
from cloisonne.core.step import ALWAYS, Interval


@dataclass(frozen=True, kw_only=True, repr=False)
class TokenMaps(AttentionEdit):
    """A reader of the attention to some tokens; it changes nothing.

    ``run.maps[reader]`` has the maps [W, h, w], W the number of tokens: means over layers, heads and steps. Equal
    readers share their maps.

    words: positions of the tokens among all text tokens of a row, one sequence after the other (``spans`` of
    ``TextSequences``). Each sequence has a softmax of its own, times its share of the pixel.
    grid: (height, width) of the layers that are read. view: None reads all views of the stream.
    """

    stream: str
    words: tuple[int, ...]
    grid: tuple[int, int]
    view: str | None = None
    branch: str = "cond"
    when: Interval = ALWAYS

    def touches(self, site: Site, call: Call) -> bool:
        """At cross-attention on its grid."""
        return site.cross and site.grid == self.grid and call.step in self.when and bool(self._rows(call))

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """Reads, and changes nothing: one-hot values in place of v give the probabilities of the tokens."""
        rows = self._rows(call)
        if call.texts.uniform:
            attention = self._by_values(q[rows], k[rows])
        else:
            logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            attention = softmax_by_text(logits, site, call.texts)[rows][..., list(self.words)].mean(1)
        readings = call.run.maps.setdefault(self, AttentionReadings())
        for i, own in zip(rows, attention, strict=True):
            readings.add(call.rows[i], call.step.index, own.T.reshape(-1, *self.grid))
        return q, k, v

    def mean(self, run: Run, step: int | None = None) -> Tensor | None:
        """[W, h, w] in [0, 1]: what it read in a run, or at one step of it; None if nothing."""
        return run.maps[self].mean(step) if self in run.maps else None

    def in_scene(self, scene: str) -> "TokenMaps":
        """The same of the scene's stream."""
        return replace(self, stream=f"{scene}/{self.stream}")

    def __repr__(self) -> str:
        place = f'"{self.stream}"' if self.view is None else f'view "{self.view}" of "{self.stream}"'
        return f"TokenMaps of {len(self.words)} tokens on {self.grid[0]} x {self.grid[1]}, {place}"

    def _by_values(self, q: Tensor, k: Tensor) -> Tensor:
        """[rows, Q, W]: the mean probability over heads, as many tokens at a time as a head is wide."""
        width = q.shape[-1]
        parts: list[Tensor] = []
        for start in range(0, len(self.words), width):
            chunk = self.words[start : start + width]
            marks = k.new_zeros(*k.shape[:3], width)
            for place, word in enumerate(chunk):
                marks[:, :, word, place] = 1
            parts.append(F.scaled_dot_product_attention(q, k, marks).mean(1)[..., : len(chunk)])
        return torch.cat(parts, -1)

    def _rows(self, call: Call) -> list[int]:
        return [
            i
            for i, row in enumerate(call.rows)
            if row.stream == self.stream and row.branch == self.branch and self.view in (None, row.view)
        ]
