"""Maps of the attention to words, read while it runs, and a refine that preserves what they leave."""

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.attention.regional import softmax_by_text
from cloisonne.core.plan import AttentionEdit, Call, Row, Site
from cloisonne.core.step import ALWAYS, Interval, Step

LATE = Interval(0.2, 1.0)
"""The maps of the first steps say little."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TokenMaps(AttentionEdit):
    """The attention to each word of some rows: the mean over layers, heads and steps so far, read and not stored.

    words: positions of the tokens among all text tokens of a row, one sequence after the other (``spans`` of
    ``TextSequences``). Each sequence has a softmax of its own, times its share of the pixel.
    grid: (height, width) of the layers that are read. seen: by row, [W, h, w]; the object is of one run.
    """

    stream: str
    words: tuple[int, ...]
    grid: tuple[int, int]
    view: str | None = None
    branch: str = "cond"
    when: Interval = ALWAYS
    seen: dict[Row, list[Tensor]] = field(default_factory=dict)

    def touches(self, site: Site, call: Call) -> bool:
        """At cross-attention on its grid."""
        return site.cross and site.grid == self.grid and call.step in self.when and bool(self._rows(call))

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """Reads, and changes nothing: one-hot values in place of v give the probabilities of the words."""
        rows = self._rows(call)
        if not call.texts.uniform:
            logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
            attention = softmax_by_text(logits, site, call.texts)[rows][..., list(self.words)].mean(1)
            self._note(call, rows, attention)
            return q, k, v
        width = v.shape[-1]
        for start in range(0, len(self.words), width):
            chunk = self.words[start : start + width]
            marks = v.new_zeros(len(rows), v.shape[1], k.shape[2], width)
            for place, word in enumerate(chunk):
                marks[:, :, word, place] = 1
            attention = F.scaled_dot_product_attention(q[rows], k[rows], marks).mean(1)[..., : len(chunk)]
            self._note(call, rows, attention)
        return q, k, v

    def in_scene(self, scene: str) -> "TokenMaps":
        """The same of the scene's stream, with maps of its own."""
        return replace(self, stream=f"{scene}/{self.stream}", seen={})

    def __repr__(self) -> str:
        place = f'"{self.stream}"' if self.view is None else f'view "{self.view}" of "{self.stream}"'
        read = max(map(len, self.seen.values()), default=0)
        return f"WordMaps of {len(self.words)} tokens on {self.grid[0]} x {self.grid[1]}, {place}, {read} readings"

    def mean(self) -> Tensor:
        """[W, h, w], in [0, 1]: the mean of all that was read."""
        if len(self.words) <= 0 or not self.seen:
            return torch.zeros(len(self.words), *self.grid)
        return torch.stack([torch.stack(own).mean(0) for own in map(self._chunks, self.seen.values())]).mean(0)

    def _note(self, call: Call, rows: list[int], attention: Tensor) -> None:
        """attention: [len(rows), Q, words]."""
        for i, own in zip(rows, attention, strict=True):
            self.seen.setdefault(call.rows[i], []).append(own.T.unflatten(1, self.grid).detach())

    def _chunks(self, read: list[Tensor]) -> list[Tensor]:
        """Readings of all words from readings of as many as fit a head."""
        whole: list[Tensor] = []
        for part in read:
            if whole and len(whole[-1]) < len(self.words):
                whole[-1] = torch.cat([whole[-1], part])
            else:
                whole.append(part)
        return whole

    def _rows(self, call: Call) -> list[int]:
        return [
            i
            for i, row in enumerate(call.rows)
            if row.stream == self.stream and row.branch == self.branch and self.view in (None, row.view)
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalBlend:
    """A refine: where no canvas attends to the words, the target's estimate is the source's (section 3.2).

    source, target: names of the streams. maps: those of the words in either. threshold: of the strongest place.
    """

    source: str
    target: str
    maps: tuple[TokenMaps, ...]
    threshold: float = 0.3
    when: Interval = LATE

    @property
    def streams(self) -> tuple[str, ...]:
        """Both canvases."""
        return (self.source, self.target)

    def __call__(self, x0: Tensor, z: Tensor, step: Step) -> Tensor:
        """x0 [2, C, H, W] with the target's estimate blended."""
        mask = self.mask((x0.shape[-2], x0.shape[-1])).to(x0)
        return torch.stack([x0[0], mask * x0[1] + (1 - mask) * x0[0]])

    def mask(self, size: tuple[int, int]) -> Tensor:
        """[H, W], 1 where any of the words is attended to."""
        found = [
            (own / own.amax((1, 2), keepdim=True).clamp_min(1e-8)).amax(0) for own in map(TokenMaps.mean, self.maps)
        ]
        strongest = torch.stack(found).amax(0)[None, None]
        spread = F.max_pool2d(strongest, 3, stride=1, padding=1)
        return (F.interpolate(spread, size=size, mode="bilinear", align_corners=False)[0, 0] > self.threshold).float()

    def in_scene(self, scene: str) -> "LocalBlend":
        """The same between the scene's streams; its maps must be the plan's own, so a merged plan is made anew."""
        return replace(
            self,
            source=f"{scene}/{self.source}",
            target=f"{scene}/{self.target}",
            maps=tuple(maps.in_scene(scene) for maps in self.maps),
        )
