"""What MRGD reads off the attention of the whole picture: its clearest words, and where they are attention at."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from cloisonne.core.plan import AttentionEdit, Call, Row, Site

READ = 16
"""Maps are read on the finest grid that is not finer than this."""
BOOST = 1.5
"""How much more the keys count at which the words are attention for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClearWords(AttentionEdit):
    """The running mean of where each token of a view is attention at, and which tokens have the clearest maps.

    view: start of the names of the views that are read, on both canvases. seen: by stream and grid, the sum [N, h, w]
    of what was read, and how often; the object is of one run.
    """

    view: str
    seen: dict[str, dict[tuple[int, int], tuple[Tensor, int]]] = field(default_factory=dict)

    def touches(self, site: Site, call: Call) -> bool:
        """At cross-attention on grids that are not finer than ``READ``."""
        return site.cross and max(site.grid) <= READ and bool(self._rows(call))

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """Reads, and changes nothing."""
        for i in self._rows(call):
            attention = (q[i] @ k[i].transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).mean(0)
            maps = attention.detach().float().T.unflatten(1, site.grid)
            by_grid = self.seen.setdefault(call.rows[i].stream, {})
            total, count = by_grid.get(site.grid, (torch.zeros_like(maps), 0))
            by_grid[site.grid] = (total + maps, count + 1)
        return q, k, v

    def in_scene(self, scene: str) -> "ClearWords":
        """The same of any scene; what it reads is by stream."""
        return self

    def clearest(self, stream: str, among: Sequence[int], count: int) -> list[int]:
        """At most so many of the tokens, those whose maps have the least entropy, clearest first."""
        grids = self.seen.get(stream)
        if not grids:
            return []
        total, times = grids[max(grids)]
        entropy = {token: histogram_entropy(total[token] / times) for token in among}
        return sorted(entropy, key=lambda token: (entropy[token], token))[:count]

    def _rows(self, call: Call) -> list[int]:
        return [i for i, row in enumerate(call.rows) if _whole(row, self.view)]


def histogram_entropy(values: Tensor) -> float:
    """Entropy in bits of a map's histogram, scaled to 0..255, 256 bins."""
    low, high = values.min(), values.max()
    scaled = ((values - low) / (high - low).clamp_min(1e-12) * 255).round()
    share = torch.histc(scaled, bins=256, min=0, max=255) / values.numel()
    share = share[share > 0]
    return float(-(share * share.log2()).sum()) + 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Boosted(AttentionEdit):
    """Region-aware self-attention: pixels that attend most to the chosen words count more as keys.

    In the blocks on the way down, the half of the pixels at which the chosen tokens' logits are largest count 1.5 times
    as keys of the next self-attention of that size. mode: "additive" adds log 1.5 to their logits, by each canvas's own
    words; "official" multiplies the logits by 1.5, as the paper's code does, which makes negative ones more negative,
    and takes the places from the canvas before alone. tokens: by stream, changed while the walk goes on. places: by
    stream and grid, what was read last; the object is of one run.
    """

    view: str
    mode: Literal["additive", "official"]
    source: str
    tokens: dict[str, tuple[int, ...]]
    places: dict[tuple[str, tuple[int, int]], Tensor] = field(default_factory=dict)

    def touches(self, site: Site, call: Call) -> bool:
        """In the blocks on the way down: cross-attention is read, self-attention changed where something was read."""
        if site.stage != "down" or not self._rows(call):
            return False
        return site.cross or any(self._places(call.rows[i], site) is not None for i in self._rows(call))

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """Reads the logits of the words, or makes keys count more."""
        if site.cross:
            self._read(q, k, site, call)
            return q, k, v
        more = torch.zeros(len(q), q.shape[2], device=q.device)
        for i in self._rows(call):
            chosen = self._places(call.rows[i], site)
            if chosen is not None:
                more[i, chosen] = 1
        if self.mode == "official":
            return q, k * (1 + (BOOST - 1) * more).to(k)[:, None, :, None], v
        # One channel more of queries and keys adds a bias to the logits without a table of them.
        width = q.shape[-1]
        scale = math.sqrt((width + 1) / width)
        bias = (more * math.log(BOOST) * math.sqrt(width + 1)).to(k)[:, None, :, None].expand(-1, k.shape[1], -1, 1)
        return torch.cat([q * scale, torch.ones_like(q[..., :1])], -1), torch.cat([k, bias], -1), v

    def in_scene(self, scene: str) -> "Boosted":
        """A boost of the scene's streams, with state of its own."""
        tokens = {f"{scene}/{stream}": own for stream, own in self.tokens.items()}
        return Boosted(view=self.view, mode=self.mode, source=f"{scene}/{self.source}", tokens=tokens)

    def _read(self, q: Tensor, k: Tensor, site: Site, call: Call) -> None:
        for i in self._rows(call):
            stream = call.rows[i].stream
            if tokens := self.tokens.get(stream):
                asked = torch.einsum("hqd,hd->q", q[i].float(), k[i][:, list(tokens)].float().sum(1))
                self.places[stream, site.grid] = asked.topk(len(asked) // 2).indices

    def _places(self, row: Row, site: Site) -> Tensor | None:
        return self.places.get((self.source if self.mode == "official" else row.stream, site.grid))

    def _rows(self, call: Call) -> list[int]:
        return [i for i, row in enumerate(call.rows) if _whole(row, self.view)]


def _whole(row: Row, view: str) -> bool:
    return row.branch == "cond" and row.view == view


def spans_of(ids: Sequence[int], phrases: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Where each phrase's tokens lie in a sequence: their first occurrence that no phrase before took; else nowhere."""
    taken: set[int] = set()
    found: dict[str, list[int]] = {}
    for name, phrase in phrases.items():
        size = len(phrase)
        found[name] = []
        for start in range(len(ids) - size + 1 if size else 0):
            places = range(start, start + size)
            if list(ids[start : start + size]) == list(phrase) and taken.isdisjoint(places):
                found[name] = list(places)
                taken.update(places)
                break
    return found
