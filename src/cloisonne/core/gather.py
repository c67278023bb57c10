"""Tables that sort the pixels of a batch by the text they hear, so that each text attends to its own pixels only.

Letters: R rows, Q pixels of one attention grid, T texts, n pixels of a text, N tokens. A *slot* is a place in the
sorted order; a pixel that hears several texts has several slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PAIRS_PER_LAUNCH = 2048
"""Padded query-key pairs that cost about as much as one more kernel launch; texts are batched up to this waste."""


@dataclass(frozen=True, eq=False)
class Block:
    """Texts of equal length that are attended in one launch.

    texts: their numbers; slots ``start .. start + len(texts) * queries`` hold their pixels, each padded to ``queries``.
    bias: [T, 1, queries, N], added to the logits, or None.
    """

    texts: tuple[int, ...]
    start: int
    queries: int
    bias: Tensor | None

    @property
    def stop(self) -> int:
        return self.start + len(self.texts) * self.queries


@dataclass(frozen=True, eq=False)
class Layer:
    """One contribution to each of some pixels: ``out[pixels] += share * attended[slots]``; no pixel occurs twice."""

    pixels: Tensor
    slots: Tensor
    share: Tensor


@dataclass(frozen=True, eq=False)
class Gathering:
    """How the pixels of one attention grid are sorted by text and brought back.

    order: the pixel (row * Q + position) in each slot, or None where sorting would change nothing.
    first: slot of the first text of every pixel; first_share: its weight [R * Q, 1], None where all are 1.
    more: the second, third, ... text of the pixels that have one.
    """

    blocks: tuple[Block, ...]
    order: Tensor | None
    first: Tensor
    first_share: Tensor | None
    more: tuple[Layer, ...]

    def sort(self, pixels: Tensor) -> Tensor:
        """[R * Q, C] to [slots, C]."""
        return pixels if self.order is None else pixels.index_select(0, self.order)

    def unsort(self, attended: Tensor) -> Tensor:
        """[slots, C] to [R * Q, C]: the weighted mean of what each pixel heard."""
        if self.order is None:
            return attended
        out = attended.index_select(0, self.first)
        if self.first_share is not None:
            out = out * self.first_share.to(out.dtype)
        for layer in self.more:
            out = out.index_add(0, layer.pixels, attended.index_select(0, layer.slots) * layer.share.to(out.dtype))
        return out


def gathering(
    rows: Sequence[int], lengths: Sequence[int], shares: Tensor, biases: Sequence[Tensor | None]
) -> Gathering:
    """Build the tables of one grid.

    rows, lengths: row and number of tokens of each text. shares: [T, Q], weight of each text at each pixel of its row,
    adding up to 1 over the texts of a row. biases: [Q, N] of each text, or None. Tables are on the device of shares.
    """
    device, num_pixels = shares.device, shares.shape[1]
    shares = shares.cpu()
    heard = [share.nonzero().flatten() for share in shares]
    counts = [len(pixels) for pixels in heard]
    blocks: list[Block] = []
    order: list[Tensor] = []
    slots: list[Tensor] = [torch.empty(0, dtype=torch.long)] * len(rows)
    start = 0
    for texts in _batches(lengths, counts, [bias is not None for bias in biases]):
        queries = counts[texts[0]]
        padded = {i: torch.cat([heard[i], heard[i][:1].expand(queries - counts[i])]) for i in texts}
        for place, i in enumerate(texts):
            order.append(padded[i] + rows[i] * num_pixels)
            slots[i] = start + place * queries + torch.arange(counts[i])
        bias = [b[padded[i].to(b.device)] for i in texts if (b := biases[i]) is not None]
        blocks.append(Block(tuple(texts), start, queries, torch.stack(bias)[:, None].to(device) if bias else None))
        start = blocks[-1].stop
    return _tables(
        blocks,
        order=torch.cat(order),
        pixels=torch.cat([heard[i] + row * num_pixels for i, row in enumerate(rows)]),
        slots=torch.cat(slots),
        share=torch.cat([share[pixels] for share, pixels in zip(shares, heard, strict=True)]),
        device=device,
    )


def _batches(lengths: Sequence[int], counts: Sequence[int], biased: Sequence[bool]) -> list[list[int]]:
    """Texts of equal length together while padding to the largest wastes less than another launch would."""
    batches: list[list[int]] = []
    heard = [i for i, count in enumerate(counts) if count]
    for i in sorted(heard, key=lambda i: (biased[i], lengths[i], -counts[i], i)):
        if batches:
            head = batches[-1][0]
            alike = (biased[head], lengths[head]) == (biased[i], lengths[i])
            if alike and (counts[head] - counts[i]) * lengths[i] <= PAIRS_PER_LAUNCH:
                batches[-1].append(i)
                continue
        batches.append([i])
    return batches


def _tables(
    blocks: list[Block], *, order: Tensor, pixels: Tensor, slots: Tensor, share: Tensor, device: torch.device
) -> Gathering:
    """Split the list of (pixel, slot, share) into one layer for every pixel's first text, one for the second, ..."""
    by_pixel = pixels.argsort(stable=True)
    pixels, slots, share = pixels[by_pixel], slots[by_pixel], share[by_pixel, None]
    place = torch.arange(len(pixels))
    begins = torch.ones_like(pixels, dtype=torch.bool)
    begins[1:] = pixels[1:] != pixels[:-1]
    rank = place - torch.where(begins, place, 0).cummax(0).values
    layers = [
        Layer(pixels[rank == r].to(device), slots[rank == r].to(device), share[rank == r].to(device))
        for r in range(int(rank.max()) + 1)
    ]
    first, *more = layers
    unsorted = not more and torch.equal(order, torch.arange(len(order)))
    return Gathering(
        blocks=tuple(blocks),
        order=None if unsorted else order.to(device),
        first=first.slots,
        first_share=None if bool((first.share == 1).all()) else first.share,
        more=tuple(more),
    )
