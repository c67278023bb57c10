"""What the rows of one batch hear: pieces of text, their masks at every attention grid, cached keys and values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.gather import Gathering, gathering

Projection = Callable[[Tensor], tuple[Tensor, Tensor]]
"""An attention layer's keys and values [T, N, C] or, with heads split, [T, heads, N, d] from tokens [T, N, D]."""


@dataclass(frozen=True, eq=False)
class Text:
    """One sequence of tokens [N, D] that one row hears, where its mask [H, W] (None = everywhere) says.

    within: (start, stop, mask [H, W]): these tokens get ``log(mask)`` added to their logits.
    """

    row: int
    value: Tensor
    where: Tensor | None = None
    within: tuple[tuple[int, int, Tensor], ...] = ()

    def weight(self, grid: tuple[int, int]) -> Tensor:
        """[Q]: the mask averaged over the area of each pixel of the grid."""
        if self.where is None:
            return torch.ones(grid[0] * grid[1], device=self.value.device)
        return _area(self.where, grid)

    def bias(self, grid: tuple[int, int]) -> Tensor | None:
        """[Q, N] to add to the logits, or None. The least is the log of the smallest float, so that none is -inf."""
        if not self.within:
            return None
        bias = self.value.new_zeros(grid[0] * grid[1], len(self.value), dtype=torch.float32)
        for start, stop, mask in self.within:
            bias[:, start:stop] = _area(mask, grid).clamp_min(torch.finfo(torch.float32).tiny).log()[:, None]
        return bias


def _area(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    return F.adaptive_avg_pool2d(mask[None].float(), grid).flatten()


class Texts:
    """The texts of a batch of R rows. Tables and projections are made when first asked for and kept.

    An instance belongs to one network and one run.
    """

    def __init__(self, texts: Sequence[Text], num_rows: int) -> None:
        self.texts = tuple(texts)
        self.num_rows = num_rows
        self._shares: dict[tuple[int, int], Tensor] = {}
        self._biases: dict[tuple[int, int], list[Tensor | None]] = {}
        self._gatherings: dict[tuple[int, int], Gathering] = {}
        self._projected: dict[tuple[str, str], tuple[tuple[Tensor, Tensor], ...]] = {}

    @property
    def alike(self) -> bool:
        """Every row hears one text, all of the same length: what stock attention can do, whatever their masks."""
        lengths = {len(text.value) for text in self.texts}
        return len(self.texts) == self.num_rows and len(lengths) == 1 and not any(text.within for text in self.texts)

    @property
    def single(self) -> bool:
        """Every text is one token."""
        return all(len(text.value) == 1 for text in self.texts)

    def coverage(self, grid: tuple[int, int]) -> Tensor:
        """[R, Q]: how much text each pixel hears in all; attention is defined where this is above 0."""
        total = torch.zeros(self.num_rows, grid[0] * grid[1], device=self.texts[0].value.device)
        for text in self.texts:
            total[text.row] += text.weight(grid)
        return total

    def shares(self, grid: tuple[int, int]) -> Tensor:
        """[T, Q]: weight of each text among those of its row, adding up to 1 at every pixel."""
        if grid not in self._shares:
            rows = [text.row for text in self.texts]
            self._shares[grid] = torch.stack([text.weight(grid) for text in self.texts]) / self.coverage(grid)[rows]
        return self._shares[grid]

    def biases(self, grid: tuple[int, int]) -> list[Tensor | None]:
        """[Q, N] of each text, or None."""
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
        return self._project(("block", layer), project, lambda: self._block_tokens(grid))

    def by_text(self, layer: str, project: Projection) -> tuple[tuple[Tensor, Tensor], ...]:
        """Keys and values of each text, T = 1 each."""
        return self._project(("text", layer), project, lambda: [text.value[None] for text in self.texts])

    def by_token(self, layer: str, heard: Callable[[Tensor], Tensor]) -> Tensor:
        """[T, C] from :attr:`single` texts."""
        tokens = torch.stack([text.value for text in self.texts])
        return self._project(("token", layer), lambda x: (heard(x), x), lambda: [tokens])[0][0][:, 0]

    def by_row(self, layer: str, project: Projection) -> tuple[Tensor, Tensor]:
        """Keys and values of all texts of a row one after the other, padded with zero tokens, T = R."""
        return self._project(("row", layer), project, lambda: [self._row_tokens()])[0]

    def spans(self) -> list[tuple[int, int]]:
        """(start, stop) of each text in the sequence of its row, as in :meth:`by_row`."""
        ends = [0] * self.num_rows
        spans = []
        for text in self.texts:
            spans.append((ends[text.row], ends[text.row] + len(text.value)))
            ends[text.row] = spans[-1][1]
        return spans

    def _block_tokens(self, grid: tuple[int, int]) -> list[Tensor]:
        return [torch.stack([self.texts[i].value for i in block.texts]) for block in self.gathering(grid).blocks]

    def _row_tokens(self) -> Tensor:
        spans = self.spans()
        width = self.texts[0].value.shape[1]
        tokens = self.texts[0].value.new_zeros(self.num_rows, max(stop for _, stop in spans), width)
        for text, (start, stop) in zip(self.texts, spans, strict=True):
            tokens[text.row, start:stop] = text.value
        return tokens

    def _project(
        self, key: tuple[str, str], project: Projection, tokens: Callable[[], list[Tensor]]
    ) -> tuple[tuple[Tensor, Tensor], ...]:
        if key not in self._projected:
            self._projected[key] = tuple(project(stack) for stack in tokens())
        return self._projected[key]
