"""The sequence of one batch row in joint attention: its text tokens, and who attends to whom."""

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.attention.joint import JointLayout, QueryGroup, Segment, image_groups, query_groups
from cloisonne.core.attention.joint_blocks import BlockGroups, JointOptions
from cloisonne.core.attention.references import Reference
from cloisonne.core.attention.text_sequences import TextSequence, TextSequences
from cloisonne.core.plan import Call
from cloisonne.errors import CapabilityError
from cloisonne.models.mmdit.packing import packed
from cloisonne.models.mmdit.region_lora import SequenceLoras, sequence_loras

Order = Literal["text first", "image first"]
"""The order of the sequence: [text, image] in FLUX, [image, text] in Stable Diffusion 3 and Z-Image."""
Counts: TypeAlias = tuple[tuple[int, int, float], ...]
"""(start, stop, times) of tokens that count several times."""


@dataclass(frozen=True, eq=False)
class RowSequence:
    """One batch row, cached for a run.

    tokens: [N, D], the row's texts one after the other: first those without a mask, then the masked ones, which are
    alternatives: the text positions of each begin anew. lengths: tokens of each text. padding: tokens that the network
    adds after each text. layout: of the whole sequence, with what is added. text: the tokens ``start .. stop`` of it
    that are text.
    """

    tokens: Float[Tensor, "N D"]
    lengths: tuple[int, ...]
    padding: tuple[int, ...]
    layout: JointLayout
    text: tuple[int, int]
    _groups: dict[tuple[bool, bool] | Literal["image"], tuple[QueryGroup, ...]] = field(default_factory=dict)

    def blocks(self, options: JointOptions, progress: float) -> BlockGroups:
        """Who attends to whom in each block of one forward. progress: fraction of the steps that are done."""
        regional = self._made(regional=True, isolated=progress < options.isolate)
        between = self._made(regional=False, isolated=False) if options.every > 1 else ()
        return BlockGroups(regional, between, options.every, self._image() if progress < options.isolate else ())

    def _image(self) -> tuple[QueryGroup, ...]:
        if "image" not in self._groups:
            layout = JointLayout(self.layout.segments, self.layout.image, isolated=True)
            self._groups["image"] = image_groups(layout, self.tokens.device)
        return self._groups["image"]

    def _made(self, *, regional: bool, isolated: bool) -> tuple[QueryGroup, ...]:
        if (regional, isolated) not in self._groups:
            layout = self.layout if regional else self.layout.without_regions()
            layout = JointLayout(layout.segments, layout.image, isolated)
            self._groups[regional, isolated] = query_groups(layout, self.tokens.device)
        return self._groups[regional, isolated]


def row_sequence(call: Call, row: int, grid: tuple[int, int], order: Order, multiple: int) -> RowSequence:
    """The sequence of a row of a call, made once a run. grid: (height, width) in image tokens.

    multiple: the network pads the image and texts to multiples of so many tokens. Phrases next to a caption get no
    padding; texts of a row that all have masks do, such as the negatives of regions.

    Raises CapabilityError for texts with what joint attention does not have.
    """
    references = call.references[row] if call.references else ()
    key = (row_sequence, call.texts, references, row, grid, order, multiple)
    return call.run.state(key, lambda: _sequence(call, row, grid, order, multiple, references))


def _sequence(
    call: Call, row: int, grid: tuple[int, int], order: Order, multiple: int, references: tuple[Reference, ...]
) -> RowSequence:
    whole = dict.fromkeys(text.whole or text for text in call.texts.texts if text.row == row)
    texts = sorted(whole, key=lambda text: text.mask is not None)
    if any(text.bias_masks and text.mask is not None for text in texts):
        raise CapabilityError(
            f'View "{call.rows[row].view}": this network takes no masks of single tokens of a text that has a mask.'
        )
    lengths = tuple(len(text.value) for text in texts)
    has_caption = any(text.mask is None for text in texts)
    padding = tuple(0 if text.mask is not None and has_caption else -len(text.value) % multiple for text in texts)
    num_image = math.prod(grid)
    after_image = -num_image % multiple
    start = 0 if order == "text first" else num_image + after_image
    segments: list[Segment] = []
    weights = TextSequences(texts, len(call.rows)).weights(grid)
    for text, weight, *parts in zip(texts, weights, lengths, padding, strict=True):
        segments += _segments(text, weight, start, sum(parts), grid)
        start += sum(parts)
    first = start if order == "text first" else 0
    image = (first, first + num_image)
    if after_image:
        segments.append(Segment(image[1], image[1] + after_image))
    assert not references or (order == "text first" and multiple == 1), "references come after the image"
    end = image[1]
    for reference in references:
        own = packed(reference.latents[None], call.z.shape[-2] // grid[0])[0]
        weight = None if reference.mask is None else TextSequence(row, own, reference.mask).weight(grid)
        segments.append(Segment(end, end + len(own), weight))
        end += len(own)
    tokens = torch.cat([text.value for text in texts])
    text_tokens = (0, first) if order == "text first" else (num_image + after_image, start)
    return RowSequence(tokens, lengths, padding, JointLayout(tuple(segments), image), text_tokens)


def row_loras(call: Call, row: int, grid: tuple[int, int], sequence: RowSequence) -> SequenceLoras | None:
    """How much each LoRA counts at each token of a row's sequence, made once a run; None without LoRAs."""
    if call.loras is None:
        return None
    loras = call.loras

    def made() -> SequenceLoras:
        pixels = {name: loras.amount(name, grid)[row].flatten() for name in sorted(loras.names)}
        return sequence_loras(pixels, sequence.layout, sequence.text)

    return call.run.state((row_loras, loras, row, sequence), made)


def _segments(
    text: TextSequence, weight: Float[Tensor, " Q"], start: int, length: int, grid: tuple[int, int]
) -> list[Segment]:
    """A text of ``length`` tokens, with its padding, from ``start``: one segment, or several of different masks.

    weight: of the whole text. Tokens of a text without a mask that have a mask of their own are a caption of the rest.
    """
    if text.mask is not None:
        return [Segment(start, start + length, weight, text.counts)]
    found: list[Segment] = []
    done = 0
    for first, last, mask in sorted(text.bias_masks, key=lambda span: span[0]):
        if done < first:
            found.append(Segment(start + done, start + first, None, _within(text.counts, done, first)))
        own = TextSequence(text.row, text.value, mask).weight(grid) * weight
        found.append(Segment(start + first, start + last, own, _within(text.counts, first, last), rest=True))
        done = last
    if done < length:
        found.append(Segment(start + done, start + length, None, _within(text.counts, done, length)))
    return found


def _within(counts: Counts, first: int, last: int) -> Counts:
    """The counts of the tokens ``first .. last`` of a text, from ``first``."""
    cut = ((max(start, first) - first, min(stop, last) - first, times) for start, stop, times in counts)
    return tuple((start, stop, times) for start, stop, times in cut if start < stop)
