"""The texts of a batch's rows: token sequences, their masks at every attention grid, cached keys and values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.attention.gather import Gathering, gathering
from cloisonne.core.region_lora import LoraScales


@runtime_checkable
class Projection(Protocol):
    """An attention layer's keys and values [T, N, C] or, with heads split, [T, heads, N, d]."""

    def __call__(self, tokens: Tensor, loras: Sequence[LoraScales] = ()) -> tuple[Tensor, Tensor]:
        """tokens: [T, N, D]. loras: those that change the layer for each of the T texts; () for none at all."""
        ...


@dataclass(frozen=True, eq=False)
class TextSequence:
    """One sequence of tokens [N, D] that one row attends to where its mask [H, W] is set (None = everywhere).

    bias_masks: (start, stop, mask [H, W]): these tokens get ``log(mask)`` added to their logits. counts: (start, stop,
    times): these get ``log(times)`` at every pixel. loras: those that change its keys and values. peak: whether its
    weight at a coarse grid is scaled so that its maximum is the mask's own; the row's other sequences yield
    (:meth:`TextSequences.shares`). whole: the sequence of which this one is the part where its LoRAs count, if any.
    """

    row: int
    value: Float[Tensor, "N D"]
    mask: Float[Tensor, "H W"] | None = None
    bias_masks: tuple[tuple[int, int, Float[Tensor, "H W"]], ...] = ()
    counts: tuple[tuple[int, int, float], ...] = ()
    loras: LoraScales = ()
    peak: bool = False
    whole: "TextSequence | None" = None

    def weight(self, grid: tuple[int, int]) -> Float[Tensor, " Q"]:
        """[Q]: the mask averaged over the area of each pixel of the grid."""
        if self.mask is None:
            return torch.ones(grid[0] * grid[1], device=self.value.device)
        return _area(self.mask, grid)

    def bias(self, grid: tuple[int, int]) -> Float[Tensor, "_ N"] | None:
        """[Q, N] to add to the logits, [1, N] where it is the same for all pixels, or None.

        The least is the log of the smallest float, so that none is -inf.
        """
        if not self.bias_masks and not self.counts:
            return None
        rows = grid[0] * grid[1] if self.bias_masks else 1
        bias = self.value.new_zeros(rows, len(self.value), dtype=torch.float32)
        for start, stop, mask in self.bias_masks:
            bias[:, start:stop] += _log(_area(mask, grid))[:, None]
        for start, stop, times in self.counts:
            bias[:, start:stop] += _log(bias.new_tensor([times]))
        return bias


def _log(counts: Tensor) -> Tensor:
    return counts.clamp_min(torch.finfo(torch.float32).tiny).log()


def _area(mask: Float[Tensor, "H W"], grid: tuple[int, int]) -> Float[Tensor, " Q"]:
    return F.adaptive_avg_pool2d(mask[None].float(), grid).flatten()


class TextSequences:
    """The texts of a batch of R rows. Tables and projections are made at their first use and cached.

    An instance belongs to one network and one run.
    """

    def __init__(self, texts: Sequence[TextSequence], num_rows: int) -> None:
        self.texts = tuple(texts)
        self.num_rows = num_rows
        self._shares: dict[tuple[int, int], Tensor] = {}
        self._biases: dict[tuple[int, int], list[Tensor | None]] = {}
        self._gatherings: dict[tuple[int, int], Gathering] = {}
        self._projected: dict[tuple[str, str], tuple[tuple[Tensor, Tensor], ...]] = {}

    @property
    def uniform(self) -> bool:
        """Every row has one text, all of the same length: what stock attention can do, whatever their masks."""
        lengths = {len(text.value) for text in self.texts}
        return (
            len(self.texts) == self.num_rows
            and len(lengths) == 1
            and not any(text.bias_masks or text.counts for text in self.texts)
        )

    @property
    def single(self) -> bool:
        """Every text is one token."""
        return all(len(text.value) == 1 for text in self.texts)

    @property
    def adapted(self) -> bool:
        """Any text has a LoRA."""
        return any(text.loras for text in self.texts)

    def coverage(self, grid: tuple[int, int]) -> Float[Tensor, "R Q"]:
        """[R, Q]: the sum of the texts' masks; attention is defined where this is above 0."""
        total = torch.zeros(self.num_rows, grid[0] * grid[1], device=self.texts[0].value.device)
        for text in self.texts:
            total[text.row] += text.weight(grid)
        return total

    def shares(self, grid: tuple[int, int]) -> Float[Tensor, "T Q"]:
        """[T, Q]: weight of each text among those of its row, adding up to 1 at every pixel.

        A text with ``peak`` counts as much in the cell that holds most of its mask as the mask does where it is
        greatest; what that takes is taken from the row's texts without.
        """
        if grid not in self._shares:
            rows = [text.row for text in self.texts]
            weights = torch.stack([text.weight(grid) for text in self.texts])
            total = self.coverage(grid)
            if any(text.peak for text in self.texts):
                weights = self._scaled(weights)
                total = torch.zeros_like(total).index_add_(0, torch.tensor(rows, device=total.device), weights)
            self._shares[grid] = weights / total[rows]
        return self._shares[grid]

    def _scaled(self, weights: Tensor) -> Tensor:
        """[T, Q]: the weights, adding up to 1 in each row, with those of ``peak`` scaled."""
        scaled = weights.clone()
        for row in {text.row for text in self.texts if text.peak}:
            own = [i for i, text in enumerate(self.texts) if text.row == row]
            peaks = [i for i in own if self.texts[i].peak]
            for i in peaks:
                mask = self.texts[i].mask
                greatest = weights[i].max().clamp_min(torch.finfo(weights.dtype).tiny)
                scaled[i] *= (1.0 if mask is None else mask.max()) / greatest
            before, after = (w[peaks].sum(0) for w in (weights, scaled))
            scaled[[i for i in own if i not in peaks]] *= ((1 - after) / (1 - before).clamp_min(1e-6)).clamp(0, 1)
        return scaled

    def weights(self, grid: tuple[int, int]) -> Float[Tensor, "T Q"]:
        """[T, Q]: how much each text counts at each pixel, in one softmax of all: its mask, 1 where it has none.

        With ``peak`` as in :meth:`shares`.
        """
        weights = torch.stack([text.weight(grid) for text in self.texts])
        return self._scaled(weights) if any(text.peak for text in self.texts) else weights

    def biases(self, grid: tuple[int, int]) -> list[Tensor | None]:
        """[Q, N] or [1, N] of each text, or None."""
        if grid not in self._biases:
            self._biases[grid] = [text.bias(grid) for text in self.texts]
        return self._biases[grid]

    def gathering(self, grid: tuple[int, int]) -> Gathering:
        """The tables that sort this grid's pixels by text."""
        if grid not in self._gatherings:
            self._gatherings[grid] = gathering(
                [text.row for text in self.texts],
                [len(text.value) for text in self.texts],
                self.shares(grid),
                self.biases(grid),
            )
        return self._gatherings[grid]

    def by_block(self, layer: str, grid: tuple[int, int], project: Projection) -> tuple[tuple[Tensor, Tensor], ...]:
        """Keys and values of each block of the gathering, T texts each."""
        blocks = self.gathering(grid).blocks
        return self._project(("block", layer), project, lambda: [block.texts for block in blocks])

    def by_text(self, layer: str, project: Projection) -> tuple[tuple[Tensor, Tensor], ...]:
        """Keys and values of each text, T = 1 each."""
        return self._project(("text", layer), project, lambda: [(i,) for i in range(len(self.texts))])

    def by_token(self, layer: str, project: Callable[[Tensor], Tensor]) -> Float[Tensor, "T C"]:
        """[T, C] from :attr:`single` texts."""
        key = ("token", layer)
        if key not in self._projected:
            tokens = torch.stack([text.value for text in self.texts])
            self._projected[key] = ((project(tokens), tokens),)
        return self._projected[key][0][0][:, 0]

    def by_row(self, layer: str, project: Projection) -> tuple[Tensor, Tensor]:
        """Keys and values of all texts of a row one after the other, padded with zero tokens, T = R."""
        if self.adapted:
            keys_values = self.by_text(layer, project)
            return self._in_rows([k[0] for k, _ in keys_values]), self._in_rows([v[0] for _, v in keys_values])
        key = ("row", layer)
        if key not in self._projected:
            self._projected[key] = (project(self._in_rows([text.value for text in self.texts])),)
        return self._projected[key][0]

    def spans(self) -> list[tuple[int, int]]:
        """(start, stop) of each text in the sequence of its row, as in :meth:`by_row`."""
        ends = [0] * self.num_rows
        spans: list[tuple[int, int]] = []
        for text in self.texts:
            spans.append((ends[text.row], ends[text.row] + len(text.value)))
            ends[text.row] = spans[-1][1]
        return spans

    def _in_rows(self, parts: Sequence[Tensor]) -> Tensor:
        """[R, ..., N, D] from [..., N, D] of each text: those of a row one after the other, padded with zeros."""
        spans = self.spans()
        *lead, _, width = parts[0].shape
        out = parts[0].new_zeros(self.num_rows, *lead, max(stop for _, stop in spans), width)
        for text, part, (start, stop) in zip(self.texts, parts, spans, strict=True):
            out[text.row, ..., start:stop, :] = part
        return out

    def _project(
        self, key: tuple[str, str], project: Projection, batches: Callable[[], Sequence[Sequence[int]]]
    ) -> tuple[tuple[Tensor, Tensor], ...]:
        """Keys and values of each batch of texts of one length, by their numbers."""
        if key not in self._projected:
            self._projected[key] = tuple(self._batch(project, texts) for texts in batches())
        return self._projected[key]

    def _batch(self, project: Projection, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        texts = [self.texts[i] for i in numbers]
        tokens = torch.stack([text.value for text in texts])
        return project(tokens, [text.loras for text in texts]) if self.adapted else project(tokens)
