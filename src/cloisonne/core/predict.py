"""The heart: from a plan and the noisy canvases to one estimate of the clean canvases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor

from cloisonne.core.attention.image_prompts import ImagePrompts
from cloisonne.core.attention.text_sequences import TextSequence, TextSequences
from cloisonne.core.conditioning import SKIP_MID
from cloisonne.core.control_residuals import ControlNetRow, control_batches, residuals_of
from cloisonne.core.inpaint_context import InpaintContext
from cloisonne.core.plan import AttentionEdit, Branch, Call, Conditioning, Plan, Row, Step, Tokens, View
from cloisonne.core.region_lora import BatchLoras, RegionLora, split
from cloisonne.errors import CapabilityError, SceneError

RowTexts: TypeAlias = tuple[tuple[tuple[Tokens, ...], tuple[RegionLora, ...]], ...]
"""The text tokens of each row of a batch, and the LoRAs that change how they are attended to."""
Images: TypeAlias = tuple[tuple[Tokens, ...], ...]
"""The image prompts of each row of a batch."""


@dataclass(eq=False)
class Run:
    """What one run of a plan keeps between its denoising steps, and what it counts.

    forwards, rows: forward passes (control networks included), and rows of all their batches. texts: the tokens of
    each batch, and its texts with their keys and values; image_prompts, loras: the same of these. shares: the
    normalised weights of each set of active views.
    """

    forwards: int = 0
    rows: int = 0
    texts: dict[tuple[Row, ...], tuple[RowTexts, TextSequences]] = field(default_factory=dict)
    image_prompts: dict[tuple[Row, ...], tuple[Images, ImagePrompts]] = field(default_factory=dict)
    loras: dict[tuple[Row, ...], tuple[tuple[tuple[RegionLora, ...], ...], BatchLoras]] = field(default_factory=dict)
    shares: dict[tuple[View, ...], tuple[Tensor, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RowRequest:
    """One line of a batch before it is one: its name, its view, what it is conditionings."""

    row: Row
    view: View
    branch: Branch


def predict(plan: Plan, z: Tensor, step: Step, run: Run | None = None) -> Tensor:
    """Estimate of the clean canvas of every stream: ask each network once, guide, fuse, refine.

    z: [S, C, H, W] in the order of ``plan.streams``. Returns the same shape. A run keeps text keys and values from step
    to step; without one the numbers are the same. Raises SceneError where a latent pixel is covered by no view.
    """
    run = Run() if run is None else run
    streams = plan.streams
    active = (view for view in plan.views if step in view.when)
    views = tuple(sorted(active, key=lambda view: (view.stream, view.name)))
    windows = {view: view.crop(z[streams.index(view.stream)]) for view in views}
    assert all(view.weight.shape == window.shape[-2:] for view, window in windows.items()), "weights fit their windows"
    outputs: dict[Row, Tensor] = {}
    found: dict[View, Tensor] = {}
    for asks in passes(views, step, per_scene=z.device.type == "cpu"):
        call = collate(_surrounded(asks, z, streams, found), [windows[ask.view] for ask in asks], step, plan.edits, run)
        outputs |= zip(call.rows, asks[0].view.net(call), strict=True)
        run.forwards += 1
        run.rows += len(asks)
        found |= {view: _guided(view, outputs, windows[view], step) for view in {ask.view: None for ask in asks}}
    x0 = fuse(z, streams, {view: found[view] for view in views}, run)
    for refine in plan.refines:
        if step in refine.when:
            places = [streams.index(stream) for stream in refine.streams]
            x0[places] = refine(x0[places], z[places], step)
    return x0


def _guided(view: View, outputs: Mapping[Row, Tensor], window: Tensor, step: Step) -> Tensor:
    """A view's estimate of its window, [C, H, W]."""
    own = {branch: outputs[Row(view.name, view.stream, branch)] for branch in view.guide.branches(step)}
    return view.guide(own, window, step)


def _surrounded(
    asks: list[RowRequest], z: Tensor, streams: tuple[str, ...], found: Mapping[View, Tensor]
) -> list[RowRequest]:
    """The same rows; inpainting networks get what the views before them estimate around the hole."""
    if not any(map(_around, asks)):
        return asks
    total, estimate = z.new_zeros(len(streams), 1, *z.shape[-2:]), torch.zeros_like(z)
    for view, x0 in found.items():
        place = streams.index(view.stream)
        view.crop(total[place]).add_(view.weight)
        view.crop(estimate[place]).add_(view.weight * x0)
    estimate = torch.where(total > 0, estimate / total.clamp_min(1e-6), 0)
    return [_with_context(ask, ask.view.crop(estimate[streams.index(ask.view.stream)])) for ask in asks]


def _with_context(ask: RowRequest, estimate: Tensor) -> RowRequest:
    if callable(ask.branch) or ask.branch.inpaint_context is None:
        return ask
    channels = ask.branch.inpaint_context.channels(estimate)
    return replace(ask, branch=replace(ask.branch, inpaint_context=None, channels=channels))


def _around(ask: RowRequest) -> InpaintContext | None:
    return None if callable(ask.branch) else ask.branch.inpaint_context


def passes(views: Sequence[View], step: Step, *, per_scene: bool) -> list[list[RowRequest]]:
    """The batches of one step: rows of one network and window size, in the order of their names.

    Inpainting networks come last, because the others' estimate around the hole is their input.
    per_scene: rows of different scenes apart. On the CPU the last bits of a row depend on the shape of its batch, so
    there every image is its own pass and batch size never changes a byte.
    """
    batches: dict[tuple[int, torch.Size, str, bool], list[RowRequest]] = {}
    for view in views:
        asks = []
        for name in view.guide.branches(step):
            if name not in view.branches:
                raise CapabilityError(f'View "{view.name}": guidance asks branch "{name}", which the view lacks.')
            asks.append(RowRequest(Row(view.name, view.stream, name), view, view.branches[name]))
        # Views of the same network that do not look around are among those that are looked at.
        last = any(map(_around, asks))
        key = (id(view.net), view.weight.shape, view.scene if per_scene else "", last)
        batches.setdefault(key, []).extend(asks)
    ordered = [sorted(rows, key=lambda ask: ask.row) for rows in batches.values()]
    return sorted(ordered, key=lambda asks: any(map(_around, asks)))


def collate(
    asks: Sequence[RowRequest], windows: Sequence[Tensor], step: Step, edits: tuple[AttentionEdit, ...], run: Run
) -> Call:
    """One batch from the windows [C, H, W] of the canvas and what each row is conditionings."""
    rows = tuple(ask.row for ask in asks)
    z = torch.stack(list(windows))
    conditionings = [
        ask.branch(own, step) if callable(ask.branch) else ask.branch for ask, own in zip(asks, z, strict=True)
    ]
    pooled = _stack("pooled text", rows, [c.pooled for c in conditionings])
    micro = _micro(rows, conditionings, z)
    for batch in control_batches([c.controlnets for c in conditionings]):
        found = residuals_of(batch, z, step, _summaries(batch, rows, conditionings), pooled, micro.get("size"))
        for one, levels in zip(batch, found, strict=True):
            conditionings[one.row] += Conditioning(residuals={SKIP_MID: levels})
        run.forwards += 1
        run.rows += len(batch)
    return Call(
        z=z,
        step=step,
        rows=rows,
        texts=_texts(rows, conditionings, (z.shape[-2], z.shape[-1]), run),
        image_prompts=_pictures(rows, conditionings, run),
        channels=_stack("input channels", rows, [c.channels for c in conditionings]),
        pooled=pooled,
        micro=micro,
        residuals=_residuals([c.residuals for c in conditionings]),
        loras=_loras(rows, conditionings, z, run),
        edits=edits,
    )


def fuse(z: Tensor, streams: tuple[str, ...], guided: Mapping[View, Tensor], run: Run) -> Tensor:
    """``x0 = sum(weight * x0) / sum(weight)`` of every stream, [S, C, H, W].

    Fusing estimates and stepping once is fusing the steps of DDIM (MultiDiffusion, arXiv 2302.08113, eq. 5), because
    its step is affine in (z, x0); a stochastic solver keeps the variance that averaged noises would lose.
    """
    views = tuple(guided)
    if views not in run.shares:
        run.shares[views] = _shares(z, streams, views)
    x0 = torch.zeros_like(z)
    for view, share in zip(views, run.shares[views], strict=True):
        view.crop(x0[streams.index(view.stream)]).add_(share * guided[view])
    return x0


def _shares(z: Tensor, streams: tuple[str, ...], views: tuple[View, ...]) -> tuple[Tensor, ...]:
    """Weight [H, W] of every view's window, normalised over the views of its stream."""
    total = z.new_zeros(len(streams), *z.shape[-2:])
    for view in views:
        view.crop(total[streams.index(view.stream)]).add_(view.weight)
    for stream, weight in zip(streams, total, strict=True):
        if bare := int((weight <= 0).sum()):
            raise SceneError(
                f'{bare} latent pixels of "{stream}" are covered by no view; give the regions weight there, '
                "or a view of the whole canvas."
            )
    return tuple(view.weight / view.crop(total[streams.index(view.stream)]) for view in views)


def _texts(
    rows: tuple[Row, ...], conditionings: Sequence[Conditioning], size: tuple[int, int], run: Run
) -> TextSequences:
    """The batch's texts; those of the step before, with their keys and values, if every row says the same objects."""
    pieces_by_row = tuple((conditioning.tokens, conditioning.region_loras) for conditioning in conditionings)
    if rows in run.texts and run.texts[rows][0] == pieces_by_row:
        return run.texts[rows][1]
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
    run.texts[rows] = (pieces_by_row, texts)
    return texts


def _pictures(rows: tuple[Row, ...], conditionings: Sequence[Conditioning], run: Run) -> ImagePrompts | None:
    """The batch's image prompts, cached like its texts; None where no row has any."""
    pieces_by_row = tuple(conditioning.image_prompts for conditioning in conditionings)
    if not any(pieces_by_row):
        return None
    if rows not in run.image_prompts or run.image_prompts[rows][0] != pieces_by_row:
        seen = [TextSequence(place, p.value, p.mask) for place, pieces in enumerate(pieces_by_row) for p in pieces]
        run.image_prompts[rows] = (pieces_by_row, ImagePrompts(seen))
    return run.image_prompts[rows][1]


def _loras(rows: tuple[Row, ...], conditionings: Sequence[Conditioning], z: Tensor, run: Run) -> BatchLoras | None:
    """The batch's LoRAs, kept like its texts; None where no row has any."""
    pieces_by_row = tuple(conditioning.region_loras for conditioning in conditionings)
    if not any(pieces_by_row):
        return None
    if rows not in run.loras or run.loras[rows][0] != pieces_by_row:
        run.loras[rows] = (pieces_by_row, BatchLoras(pieces_by_row, z))
    return run.loras[rows][1]


def _sequences(place: int, row: Row, tokens: tuple[Tokens, ...], adapted: tuple[RegionLora, ...]) -> list[TextSequence]:
    """One sequence of all pieces without a mask, and one of each piece with a mask; split by LoRA masks."""
    shared = [piece for piece in tokens if piece.mask is None]
    texts = [TextSequence(place, p.value, p.mask, _within([p]), peak=p.peak) for p in tokens if p.mask is not None]
    if shared:
        texts.append(TextSequence(place, torch.cat([piece.value for piece in shared]), None, _within(shared)))
    if not texts:
        raise SceneError(f'View "{row.view}": branch "{row.branch}" has no tokens; give it at least an empty text.')
    return [replace(text, mask=where, loras=loras) for text in texts for where, loras in split(text.mask, adapted)]


def _within(pieces: Sequence[Tokens]) -> tuple[tuple[int, int, Tensor | float], ...]:
    """Start, stop and mask, or count, of what is biased in the sequence of all pieces."""
    found: list[tuple[int, int, Tensor | float]] = []
    begin = 0
    for piece in pieces:
        end = begin + len(piece.value)
        if piece.bias_mask is not None:
            found.append((begin, end, piece.bias_mask))
        found += [(begin + start, begin + stop, times) for start, stop, times in piece.counts]
        begin = end
    return tuple(found)


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
    found = {}
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


def _residuals(parts: Sequence[Mapping[str, tuple[Tensor, ...]]]) -> dict[str, tuple[Tensor, ...]]:
    """[R, ...] of each level by injection point."""
    points = dict.fromkeys(point for levels in parts for point in levels)
    return {point: _stack_levels([levels.get(point, ()) for levels in parts]) for point in points}


def _stack_levels(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """[R, ...] of each level; rows without residuals get zeros, which add nothing."""
    longest = max(parts, key=len)
    filled = [levels or tuple(map(torch.zeros_like, longest)) for levels in parts]
    return tuple(torch.stack(level) for level in zip(*filled, strict=True))
