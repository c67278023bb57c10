"""What MRGD reads from the cross-attention of the whole image: the tokens with the clearest maps, and their places."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from cloisonne.core.plan import AttentionEdit, Call, Row, Site
from cloisonne.core.run import Run

READ = 16
"""Maps are read on the finest grid that is not finer than this."""
BOOST = 1.5
"""Factor of the keys that are boosted."""


@dataclass(frozen=True, kw_only=True)
class ClearWords(AttentionEdit):
    """Reads the attention to each token of a view, and finds the tokens that have the clearest maps.

    view: the view that is read, on every canvas. In a run it keeps, by grid of each canvas, the sum [N, h, w] of what
    was read, and how often.
    """

    view: str

    def touches(self, site: Site, call: Call) -> bool:
        """At cross-attention on grids that are not finer than ``READ``."""
        return site.cross and max(site.grid) <= READ and bool(self._rows(call))

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """Reads, and changes nothing."""
        for i in self._rows(call):
            attention = (q[i] @ k[i].transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).mean(0)
            maps = attention.detach().float().T.unflatten(1, site.grid)
            by_grid = self._by_grid(call.rows[i].stream, call.run)
            total, count = by_grid.get(site.grid, (torch.zeros_like(maps), 0))
            by_grid[site.grid] = (total + maps, count + 1)
        return q, k, v

    def in_scene(self, scene: str) -> "ClearWords":
        """The same of any scene; what it reads is by stream."""
        return self

    def clearest(self, stream: str, among: Sequence[int], count: int, run: Run) -> list[int]:
        """At most so many of the tokens, those whose maps in a run have the least entropy, clearest first."""
        grids = self._by_grid(stream, run)
        if not grids:
            return []
        total, times = grids[max(grids)]
        entropy = {token: histogram_entropy(total[token] / times) for token in among}
        return sorted(entropy, key=lambda token: (entropy[token], token))[:count]

    def _by_grid(self, stream: str, run: Run) -> dict[tuple[int, int], tuple[Tensor, int]]:
        return run.state((self, stream), dict)

    def _rows(self, call: Call) -> list[int]:
        return [i for i, row in enumerate(call.rows) if _whole(row, self.view)]


def histogram_entropy(values: Tensor) -> float:
    """Entropy in bits of a map's histogram, scaled to 0..255, 256 bins."""
    low, high = values.min(), values.max()
    scaled = ((values - low) / (high - low).clamp_min(1e-12) * 255).round()
    share = torch.histc(scaled, bins=256, min=0, max=255) / values.numel()
    share = share[share > 0]
    return float(-(share * share.log2()).sum()) + 0.0


@dataclass
class BoostState:
    """What the boost of one canvas keeps in a run. tokens: those that are boosted. places: the keys, by grid."""

    tokens: tuple[int, ...]
    places: dict[tuple[int, int], Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Boosted(AttentionEdit):
    """Region-aware self-attention: pixels that attend most to the chosen tokens count more as keys.

    In the down blocks, the half of the pixels at which the chosen tokens' logits are largest count 1.5 times as keys of
    the next self-attention of that size. mode: "additive" adds log 1.5 to their logits, by each canvas's own tokens;
    "official" multiplies the logits by 1.5, as the paper's code does, which makes negative ones more negative, and
    takes the places from the canvas before alone. tokens: by stream, at the start of a run.
    """

    view: str
    mode: Literal["additive", "official"]
    source: str
    tokens: Mapping[str, tuple[int, ...]]

    def state(self, stream: str, run: Run) -> BoostState:
        """What it keeps of a canvas in a run; its tokens can be replaced there."""
        return run.state((Boosted, self.view, stream), lambda: BoostState(self.tokens.get(stream, ())))

    def touches(self, site: Site, call: Call) -> bool:
        """In the down blocks: cross-attention is read, self-attention changed where something was read."""
        if site.stage != "down" or not self._rows(call):
            return False
        return site.cross or any(self._places(call.rows[i], site, call) is not None for i in self._rows(call))

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """Reads the logits of the tokens, or makes keys count more."""
        if site.cross:
            self._read(q, k, site, call)
            return q, k, v
        more = torch.zeros(len(q), q.shape[2], device=q.device)
        for i in self._rows(call):
            chosen = self._places(call.rows[i], site, call)
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
        """The same of the scene's streams."""
        tokens = {f"{scene}/{stream}": own for stream, own in self.tokens.items()}
        return replace(self, source=f"{scene}/{self.source}", tokens=tokens)

    def _read(self, q: Tensor, k: Tensor, site: Site, call: Call) -> None:
        for i in self._rows(call):
            state = self.state(call.rows[i].stream, call.run)
            if state.tokens:
                asked = torch.einsum("hqd,hd->q", q[i].float(), k[i][:, list(state.tokens)].float().sum(1))
                state.places[site.grid] = asked.topk(len(asked) // 2).indices

    def _places(self, row: Row, site: Site, call: Call) -> Tensor | None:
        stream = self.source if self.mode == "official" else row.stream
        return self.state(stream, call.run).places.get(site.grid)

    def _rows(self, call: Call) -> list[int]:
        return [i for i, row in enumerate(call.rows) if row.stream in self.tokens and _whole(row, self.view)]


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
