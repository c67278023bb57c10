"""Batches of a step: which rows share a forward, and the call that they become."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor

from cloisonne.core.attention.image_prompts import ImagePrompts
from cloisonne.core.attention.text_sequences import TextSequence, TextSequences
from cloisonne.core.control_residuals import ControlNetRow, InjectionPoint, control_batches, residuals_of
from cloisonne.core.plan import AttentionEdit, Branch, Call, Conditioning, Row, Step, Tokens, View
from cloisonne.core.region_lora import BatchLoras, RegionLora, split
from cloisonne.core.run import EXACT, DeepFeatures, FeatureCaches, Run
from cloisonne.errors import CapabilityError, SceneError

RowTexts: TypeAlias = tuple[tuple[tuple[Tokens, ...], tuple[RegionLora, ...]], ...]
"""The text tokens of each row of a batch, and the LoRAs that change how they are attended to."""
Images: TypeAlias = tuple[tuple[Tokens, ...], ...]
"""The image prompts of each row of a batch."""


@dataclass(eq=False)
class BatchCaches:
    """What a run caches of its batches, by their rows: conditioning, and what was computed from it."""

    texts: dict[tuple[Row, ...], tuple[RowTexts, TextSequences]] = field(default_factory=dict)
    image_prompts: dict[tuple[Row, ...], tuple[Images, ImagePrompts]] = field(default_factory=dict)
    loras: dict[tuple[Row, ...], tuple[tuple[tuple[RegionLora, ...], ...], BatchLoras]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RowRequest:
    """One row of a batch: its name, its view, and what conditions it."""

    row: Row
    view: View
    branch: Branch

    @property
    def has_inpaint_context(self) -> bool:
        """Whether its network reads the estimate of the other views around the hole."""
        return not callable(self.branch) and self.branch.inpaint_context is not None

    def with_inpaint_context(self, estimate: Tensor) -> "RowRequest":
        """The same with input channels made of the other views' estimate [C, H, W] of the clean window."""
        if callable(self.branch) or self.branch.inpaint_context is None:
            return self
        channels = self.branch.inpaint_context.channels(estimate)
        return replace(self, branch=replace(self.branch, inpaint_context=None, channels=channels))


def passes(views: Sequence[View], step: Step, *, per_scene: bool) -> list[list[RowRequest]]:
    """The batches of one step: rows of one network and window size, in the order of their names.

    Inpainting networks come last, because the others' estimate around the hole is their input.
    per_scene: rows of different scenes apart. On the CPU the last bits of a row depend on the shape of its batch, so
    there every image is its own pass and batch size never changes a byte.
    """
    batches: dict[tuple[int, torch.Size, str, bool], list[RowRequest]] = {}
    for view in views:
        requests: list[RowRequest] = []
        for name in view.guide.branches(step):
            if name not in view.branches:
                raise CapabilityError(f'View "{view.name}": guidance asks branch "{name}", which the view lacks.')
            requests.append(RowRequest(Row(view.name, view.stream, name), view, view.branches[name]))
        # Views of the same network that read no context are part of it.
        last = any(request.has_inpaint_context for request in requests)
        key = (id(view.net), view.weight.shape, view.scene if per_scene else "", last)
        batches.setdefault(key, []).extend(requests)
    ordered = [sorted(requests, key=lambda request: request.row) for requests in batches.values()]
    return sorted(ordered, key=lambda requests: any(request.has_inpaint_context for request in requests))


def collate(
    requests: Sequence[RowRequest], windows: Sequence[Tensor], step: Step, edits: tuple[AttentionEdit, ...], run: Run
) -> Call:
    """One batch from the windows [C, H, W] of the canvas and what conditions each row."""
    rows = tuple(request.row for request in requests)
    z = torch.stack(list(windows))
    conditionings = [
        request.branch(own, step) if callable(request.branch) else request.branch
        for request, own in zip(requests, z, strict=True)
    ]
    pooled = _stack("pooled text", rows, [c.pooled for c in conditionings])
    micro = _micro(rows, conditionings, z)
    for batch in control_batches([c.controlnets for c in conditionings]):
        found = residuals_of(batch, z, step, _summaries(batch, rows, conditionings), pooled, micro)
        for one, levels in zip(batch, found, strict=True):
            conditionings[one.row] += Conditioning(residuals={one.request.net.point: levels})
        run.count(requests[one.row].view.scene for one in batch)
    caches = run.state(BatchCaches, BatchCaches)
    call = Call(
        z=z,
        step=step,
        rows=rows,
        texts=_texts(rows, conditionings, (z.shape[-2], z.shape[-1]), caches),
        run=run,
        image_prompts=_image_prompts(rows, conditionings, caches),
        channels=_stack("input channels", rows, [c.channels for c in conditionings]),
        pooled=pooled,
        micro=micro,
        residuals=_residuals([c.residuals for c in conditionings]),
        loras=_loras(rows, conditionings, z, caches),
        edits=edits,
        joint=tuple(c.joint for c in conditionings) if any(c.joint for c in conditionings) else (),
        references=tuple(c.references for c in conditionings) if any(c.references for c in conditionings) else (),
    )
    return call if run.reuse == EXACT or edits else replace(call, deep=_deep(requests, conditionings, call))


def _deep(requests: Sequence[RowRequest], conditionings: Sequence[Conditioning], call: Call) -> DeepFeatures | None:
    """The batch's deep features. Views of another interval of the steps are other views, and so are other features."""
    views = [request.view for request in requests]
    joint = [conditioning.joint for conditioning in conditionings]
    isolated = [one is not None and call.step.progress < one.isolate for one in joint]
    references = [reference for conditioning in conditionings for reference in conditioning.references]
    inputs = (*views, call.texts, call.image_prompts, call.loras, *joint, *isolated, *references, *call.residuals)
    caches = call.run.state(FeatureCaches, FeatureCaches)
    return caches.of((id(views[0].net), call.rows), inputs, call.run.reuse, call.step)


def _texts(
    rows: tuple[Row, ...], conditionings: Sequence[Conditioning], size: tuple[int, int], caches: BatchCaches
) -> TextSequences:
    """The batch's texts; those of the step before, with their keys and values, if all rows have the same tokens."""
    pieces_by_row = tuple((conditioning.tokens, conditioning.region_loras) for conditioning in conditionings)
    if rows in caches.texts and caches.texts[rows][0] == pieces_by_row:
        return caches.texts[rows][1]
    masks = [mask for tokens, _ in pieces_by_row for piece in tokens for mask in (piece.mask, piece.bias_mask)]
    masks += [adapted.mask for _, loras in pieces_by_row for adapted in loras]
    assert all(mask.shape == size for mask in masks if mask is not None), "masks fit their windows"
    texts = TextSequences(
        [text for i, own in enumerate(pieces_by_row) for text in _sequences(i, rows[i], *own)], len(rows)
    )
    for row, weight in zip(rows, texts.coverage(size), strict=True):
        if bare := int((weight <= 0).sum()):
            raise SceneError(
                f'View "{row.view}": {bare} latent pixels attend to no text in branch "{row.branch}"; '
                "give the caption weight where no region is."
            )
    caches.texts[rows] = (pieces_by_row, texts)
    return texts


def _image_prompts(
    rows: tuple[Row, ...], conditionings: Sequence[Conditioning], caches: BatchCaches
) -> ImagePrompts | None:
    """The batch's image prompts, cached like its texts; None where no row has any."""
    pieces_by_row = tuple(conditioning.image_prompts for conditioning in conditionings)
    if not any(pieces_by_row):
        return None
    if rows not in caches.image_prompts or caches.image_prompts[rows][0] != pieces_by_row:
        images = [TextSequence(place, p.value, p.mask) for place, pieces in enumerate(pieces_by_row) for p in pieces]
        caches.image_prompts[rows] = (pieces_by_row, ImagePrompts(images))
    return caches.image_prompts[rows][1]


def _loras(
    rows: tuple[Row, ...], conditionings: Sequence[Conditioning], z: Tensor, caches: BatchCaches
) -> BatchLoras | None:
    """The batch's LoRAs, cached like its texts; None where no row has any."""
    pieces_by_row = tuple(conditioning.region_loras for conditioning in conditionings)
    if not any(pieces_by_row):
        return None
    if rows not in caches.loras or caches.loras[rows][0] != pieces_by_row:
        caches.loras[rows] = (pieces_by_row, BatchLoras(pieces_by_row, z))
    return caches.loras[rows][1]


def _sequences(place: int, row: Row, tokens: tuple[Tokens, ...], adapted: tuple[RegionLora, ...]) -> list[TextSequence]:
    """One sequence of all pieces without a mask, and one of each piece with a mask; split by LoRA masks."""
    shared = [piece for piece in tokens if piece.mask is None]
    texts = [
        TextSequence(place, p.value, p.mask, _bias_masks([p]), p.counts, peak=p.peak)
        for p in tokens
        if p.mask is not None
    ]
    if shared:
        value = torch.cat([piece.value for piece in shared])
        texts.append(TextSequence(place, value, None, _bias_masks(shared), _counts(shared)))
    if not texts:
        raise SceneError(f'View "{row.view}": branch "{row.branch}" has no tokens; give it at least an empty text.')
    if not adapted:
        return texts
    return [
        replace(text, mask=where, loras=loras, whole=text)
        for text in texts
        for where, loras in split(text.mask, adapted)
    ]


def _bias_masks(pieces: Sequence[Tokens]) -> tuple[tuple[int, int, Tensor], ...]:
    """Start, stop and mask of what is biased in the sequence of all pieces."""
    return tuple((at, at + len(p.value), p.bias_mask) for at, p in _placed(pieces) if p.bias_mask is not None)


def _counts(pieces: Sequence[Tokens]) -> tuple[tuple[int, int, float], ...]:
    """Start, stop and count of the tokens that count several times in the sequence of all pieces."""
    return tuple((at + start, at + stop, times) for at, p in _placed(pieces) for start, stop, times in p.counts)


def _placed(pieces: Sequence[Tokens]) -> Iterator[tuple[int, Tokens]]:
    """Each piece with where it begins in the sequence of all."""
    return zip(accumulate((len(piece.value) for piece in pieces), initial=0), pieces, strict=False)


def _stack(what: str, rows: tuple[Row, ...], parts: Sequence[Tensor | None]) -> Tensor | None:
    """[R, ...], or None if no row has the part; a network takes it for all rows of a batch or for none."""
    given = [part for part in parts if part is not None]
    if not given:
        return None
    if len(given) < len(parts):
        row = next(row for row, part in zip(rows, parts, strict=True) if part is None)
        raise CapabilityError(
            f'View "{row.view}": branch "{row.branch}" lacks the {what} that other rows bring; add them.'
        )
    return torch.stack(given)


def _summaries(
    batch: Sequence[ControlNetRow], rows: tuple[Row, ...], conditionings: Sequence[Conditioning]
) -> dict[int, Tensor]:
    """[N, D] by the row that a ControlNet's row belongs to."""
    found: dict[int, Tensor] = {}
    for one in batch:
        summary = conditionings[one.row].summary
        if summary is None:
            row = rows[one.row]
            raise CapabilityError(
                f'View "{row.view}": branch "{row.branch}" lacks the summary that a ControlNet reads.'
            )
        found[one.row] = summary
    return found


def _micro(rows: tuple[Row, ...], conditionings: Sequence[Conditioning], z: Tensor) -> dict[str, Tensor]:
    """[R, ...] of each micro-conditioning by name."""
    names = dict.fromkeys(name for conditioning in conditionings for name in conditioning.micro)
    found = {name: [z.new_tensor(c.micro[name]) if name in c.micro else None for c in conditionings] for name in names}
    stacked = {name: _stack(f"{name} conditioning", rows, values) for name, values in found.items()}
    return {name: value for name, value in stacked.items() if value is not None}


def _residuals(
    parts: Sequence[Mapping[InjectionPoint, tuple[Tensor, ...]]],
) -> dict[InjectionPoint, tuple[Tensor, ...]]:
    """[R, ...] of each level by injection point."""
    points = dict.fromkeys(point for levels in parts for point in levels)
    return {point: _stack_levels([levels.get(point, ()) for levels in parts]) for point in points}


def _stack_levels(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """[R, ...] of each level; rows without residuals get zeros, which add nothing."""
    longest = max(parts, key=len)
    filled = [levels or tuple(map(torch.zeros_like, longest)) for levels in parts]
    return tuple(torch.stack(level) for level in zip(*filled, strict=True))
