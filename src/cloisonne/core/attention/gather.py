"""Tables that sort the pixels of a batch by the text they attend to, so that each text attends to its own pixels only.

Letters: R rows, Q pixels of one attention grid, T texts, n pixels of a text, N tokens. A *slot* is a place in the
sorted order; a pixel that attends to several texts has several slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from cloisonne.core.attention.transfer import to_device

LAUNCH = 1024
"""Query-key pairs that take about as long as the launch of one more kernel."""


@dataclass(frozen=True, eq=False)
class Block:
    """TextSequences of equal length that are attended in one launch.

    texts: their numbers; slots ``start .. start + len(texts) * queries`` hold their pixels, each padded to ``queries``.
    bias: [T, 1, queries, N], added to the logits, [T, 1, 1, N] where that of no text depends on the pixel, or None.
    """

    texts: tuple[int, ...]
    start: int
    queries: int
    bias: Float[Tensor, "T 1 _ N"] | None

    @property
    def stop(self) -> int:
        return self.start + len(self.texts) * self.queries


@dataclass(frozen=True, eq=False)
class Gathering:
    """How the pixels of one attention grid are sorted by text and brought back.

    order: the pixel (row * Q + position) in each slot, or None where sorting would change nothing.
    slots: those of the first pixel, of the second, ...; a pixel's begin at ``begins[pixel]``. shares: what each counts,
    adding up to 1 over a pixel; None where every pixel has one slot.
    """

    blocks: tuple[Block, ...]
    order: Int[Tensor, " slots"] | None
    slots: Int[Tensor, " _"]
    begins: Int[Tensor, " _"]
    shares: Float[Tensor, " _"] | None

    def sort(self, pixels: Float[Tensor, "pixels C"]) -> Float[Tensor, "slots C"]:
        """[R * Q, C] to [slots, C]."""
        return pixels if self.order is None else pixels.index_select(0, self.order)

    def unsort(self, attended: Float[Tensor, "slots C"]) -> Float[Tensor, "pixels C"]:
        """[slots, C] to [R * Q, C]: the mean of what each pixel covered, by shares."""
        if self.order is None:
            return attended
        if self.shares is None:
            return attended.index_select(0, self.slots)
        shares = self.shares.to(attended.dtype)
        return F.embedding_bag(self.slots, attended, self.begins, mode="sum", per_sample_weights=shares)


def gathering(
    rows: Sequence[int],
    lengths: Sequence[int],
    shares: Float[Tensor, "T Q"],
    biases: Sequence[Float[Tensor, "_ _"] | None],
) -> Gathering:
    """Build the tables of one grid.

    rows, lengths: row and number of tokens of each text. shares: [T, Q], weight of each text at each pixel of its row,
    adding up to 1 over the texts of a row. biases: [Q, N] of each text, [1, N] where it is the same for all pixels, or
    None. Tables are on the device of shares.
    """
    device, num_pixels = shares.device, shares.shape[1]
    shares = shares.cpu()
    covered = [share.nonzero().flatten() for share in shares]
    counts = [len(pixels) for pixels in covered]
    blocks: list[Block] = []
    order: list[Tensor] = []
    slots = [torch.empty(0, dtype=torch.long)] * len(rows)
    start = 0
    for texts in _batches(lengths, counts, [bias is not None for bias in biases]):
        queries = counts[texts[0]]
        padded = {i: torch.cat([covered[i], covered[i][:1].expand(queries - counts[i])]) for i in texts}
        for place, i in enumerate(texts):
            order.append(padded[i] + rows[i] * num_pixels)
            slots[i] = start + place * queries + torch.arange(counts[i])
        bias = _bias([biases[i] for i in texts], [padded[i] for i in texts])
        blocks.append(Block(tuple(texts), start, queries, None if bias is None else to_device(bias, device)))
        start = blocks[-1].stop
    pixels = torch.cat([covered[i] + row * num_pixels for i, row in enumerate(rows)])
    by_pixel = pixels.argsort(stable=True)
    alone = len(pixels) == int(pixels.max()) + 1
    unsorted = alone and torch.equal(torch.cat(order), torch.arange(start))
    share = torch.cat([share[own] for share, own in zip(shares, covered, strict=True)])
    return Gathering(
        blocks=tuple(blocks),
        order=None if unsorted else to_device(torch.cat(order), device),
        slots=to_device(torch.cat(slots)[by_pixel], device),
        begins=to_device(torch.searchsorted(pixels[by_pixel], torch.arange(int(pixels.max()) + 1)), device),
        shares=None if alone else to_device(share[by_pixel], device),
    )


def _bias(biases: Sequence[Tensor | None], pixels: Sequence[Tensor]) -> Tensor | None:
    """[T, 1, queries, N], [T, 1, 1, N] or None from the bias and the pixels of each text."""
    given = [bias for bias in biases if bias is not None]
    if any(len(bias) > 1 for bias in given):
        given = [
            bias.expand(len(own), -1) if len(bias) == 1 else bias[own.to(bias.device)]
            for bias, own in zip(given, pixels, strict=True)
        ]
    return torch.stack(given)[:, None] if given else None


def _batches(lengths: Sequence[int], counts: Sequence[int], biased: Sequence[bool]) -> list[list[int]]:
    """Split the texts into launches so that padding and launching together cost least.

    Only texts of equal length share a launch; from most pixels to least, each launch takes some that follow each other.
    """
    covered = [i for i, count in enumerate(counts) if count]
    texts = sorted(covered, key=lambda i: (biased[i], lengths[i], -counts[i], i))
    # best[j]: least cost of the first j texts, and where its last launch begins.
    best: list[tuple[int, int]] = [(0, 0)]
    for j in range(1, len(texts) + 1):
        options: list[tuple[int, int]] = []
        for i in range(j - 1, -1, -1):
            head = texts[i]
            if (biased[head], lengths[head]) != (biased[texts[j - 1]], lengths[texts[j - 1]]):
                break
            options.append((best[i][0] + LAUNCH + (j - i) * counts[head] * lengths[head], i))
        best.append(min(options))
    batches: list[list[int]] = []
    end = len(texts)
    while end:
        batches.append(texts[best[end][1] : end])
        end = best[end][1]
    return batches[::-1]
