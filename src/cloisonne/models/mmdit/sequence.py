"""The sequence of one batch row in joint attention: its text tokens, and who attends to whom."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.attention.joint import (
    BlockGroups,
    JointLayout,
    JointOptions,
    QueryGroup,
    Segment,
    image_groups,
    query_groups,
)
from cloisonne.core.attention.references import Reference
from cloisonne.core.attention.text_sequences import TextSequence
from cloisonne.core.plan import Call
from cloisonne.errors import CapabilityError
from cloisonne.models.mmdit.packing import packed

Order = Literal["text first", "image first"]
"""The order of the sequence: [text, image] in FLUX, [image, text] in Stable Diffusion 3 and Z-Image."""


@dataclass(frozen=True, eq=False)
class RowSequence:
    """One batch row, cached for a run.

    tokens: [N, D], the row's texts one after the other: first those without a mask, then the masked ones, which are
    alternatives: the text positions of each begin anew. lengths: tokens of each text. padding: tokens that the network
    adds after each text. layout: of the whole sequence, with what is added.
    """

    tokens: Float[Tensor, "N D"]
    lengths: tuple[int, ...]
    padding: tuple[int, ...]
    layout: JointLayout
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
    texts = sorted((text for text in call.texts.texts if text.row == row), key=lambda text: text.mask is not None)
    for text in texts:
        if text.bias_masks or text.loras:
            what = "LoRAs by region" if text.loras else "masks of single tokens"
            raise CapabilityError(f'View "{call.rows[row].view}": this network takes no {what}.')
    lengths = tuple(len(text.value) for text in texts)
    has_caption = any(text.mask is None for text in texts)
    padding = tuple(0 if text.mask is not None and has_caption else -len(text.value) % multiple for text in texts)
    num_image = math.prod(grid)
    after_image = -num_image % multiple
    start = 0 if order == "text first" else num_image + after_image
    segments: list[Segment] = []
    for text, length in zip(texts, map(sum, zip(lengths, padding, strict=True)), strict=True):
        segments.append(Segment(start, start + length, None if text.mask is None else text.weight(grid)))
        start += length
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
    return RowSequence(tokens, lengths, padding, JointLayout(tuple(segments), image))
