"""From the placed regions of a scene to one plan: words, exemplars, and how they share the canvas."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from cloisonne.core.plan import Conditioning, Interval, Plan, Tokens, View
from cloisonne.core.refines import Clamp
from cloisonne.methods.base import Method
from cloisonne.methods.context import Context
from cloisonne.methods.control import with_controls
from cloisonne.methods.exemplar import amount, exemplar_view, nothing_painted
from cloisonne.methods.ip_adapter import shown_parts, with_pictures
from cloisonne.methods.layout import Layout, Part, Placed, layout
from cloisonne.methods.lora import check_loras, lora_warnings, with_loras
from cloisonne.methods.region_options import idle, warnings
from cloisonne.models.capabilities import check
from cloisonne.scene.prompt import switches
from cloisonne.scene.region import Region
from cloisonne.scene.shapes.geometry import area


@dataclass(frozen=True, kw_only=True, eq=False)
class Compiled:
    """A scene as a plan. seeds: (seed, mask [H, W]) of the regions with noise of their own. dropped: names.

    translated: where a region has a concept, the parts of the walk and what the plan leaves to it there, [H, W] in
    [0, 1]: all that no other region takes.
    """

    plan: Plan
    seeds: tuple[tuple[int, Tensor], ...]
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]
    translated: tuple[tuple[Interval, Tensor], ...] = ()


def compile(method: Method, placed: Sequence[Placed], ctx: Context) -> Compiled:
    """The plan of the scene's regions; those of weight 0 or an empty interval are as if they were not there.

    Raises SceneError or CapabilityError, naming the region, where the method cannot say what is asked.
    """
    for lora in ctx.scene.lora:
        check("lora", ctx.model, kind=lora.name)
    for p in placed:
        if p.region.phrase:
            check(f"phrase, method {ctx.scene.method}", ctx.model, p.name)
        if p.region.exemplar is not None:
            check("exemplar", ctx.model, p.name)
        if p.region.control is not None:
            check("control", ctx.model, p.name, kind=p.region.control.kind)
        check_loras(p.region, ctx.model)
        idle(p.region, ctx.scene, ctx.model)
    counting = sorted((p for p in placed if p.region.active), key=lambda p: (-area(p.box), p.name))
    # Where regions of one priority and size do not all fit, the scene's first ones stay.
    fitting = _fitting(method, sorted(counting, key=lambda p: (-area(p.box), placed.index(p))), ctx)
    kept = [p for p in counting if p in fitting]
    dropped = tuple(p.name for p in counting if p not in kept)
    concept = next((p for p in kept if p.region.concept is not None), None)
    plan, translated = Plan(), []
    spans = _spans(kept, ctx)
    for span in spans:
        now, active = ctx.at_progress(span.start), _active(kept, span, ctx)
        views = _views(method, layout(active, now), now, span, suffix=f" from {span.start}" if len(spans) > 1 else "")
        if concept is not None:
            left = _left_to(concept, layout([concept, *active], now))
            translated.append((span, left))
            views = tuple(replace(view, weight=view.weight * (1 - view.crop(left))) for view in views)
        plan += Plan(views=views)
    if ctx.model.clip is not None:
        plan += Plan(refines=(Clamp(limit=ctx.model.clip),))
    shares = layout(kept, ctx, weighted=False).parts
    return Compiled(
        plan=plan.without_empty_views(),
        seeds=tuple((part.region.seed, part.share) for part in shares if part.region.seed is not None),
        dropped=dropped,
        warnings=(
            *(said for p in kept for said in warnings(p.region, ctx.scene, ctx.model)),
            *lora_warnings(ctx.scene, kept, ctx.model),
        ),
        translated=tuple(translated),
    )


def _fitting(method: Method, counting: Sequence[Placed], ctx: Context) -> list[Placed]:
    """The regions there is room for whatever they and the caption say in any part of the walk."""
    kept = list(counting)
    for moment in sorted({0.0} | _switches(counting, ctx) - {1.0}):
        said = {p.name: p.at_progress(moment, ctx.num_steps) for p in kept}
        fits = method.fitting([p for p in said.values() if p.region.phrase], ctx.at_progress(moment))
        kept = [p for p in kept if said[p.name] in fits or not said[p.name].region.phrase]
    return kept


def _spans(placed: Sequence[Placed], ctx: Context) -> list[Interval]:
    """The parts of the walk in which the same regions count and say the same."""
    edges = {0.0, 1.0} | {edge for p in placed for edge in (p.region.start, p.region.stop)}
    return [Interval(start, stop) for start, stop in pairwise(sorted(edges | _switches(placed, ctx)))]


def _switches(placed: Sequence[Placed], ctx: Context) -> set[float]:
    """The fractions of the walk at which a text says other words."""
    texts = [ctx.scene.caption, ctx.scene.negative]
    texts += [text for p in placed for text in (p.region.phrase, p.region.negative)]
    return {edge for text in texts for edge in switches(text, ctx.num_steps)}


def _active(kept: Sequence[Placed], span: Interval, ctx: Context) -> list[Placed]:
    """The regions that count in a part of the walk, as they say it there; without words, as pictures and maps do."""
    inside = (p for p in kept if p.region.start <= span.start and span.stop <= p.region.stop)
    said = (p.at_progress(span.start, ctx.num_steps) for p in inside)
    return [p for p in said if p.region.phrase or p.region.exemplar is not None or p.region.control is not None]


def _left_to(concept: Placed, whole: Layout) -> Tensor:
    """[H, W]: a concept's share among the regions, and all where none is."""
    total = torch.stack([part.share for part in whole.parts]).sum(0)
    own = next(part.share for part in whole.parts if part.name == concept.name)
    return torch.where(total > 0, own / torch.where(total > 0, total, 1), 1)


def _views(method: Method, layout: Layout, ctx: Context, span: Interval, suffix: str) -> tuple[View, ...]:
    painted = exemplar_view(layout.parts, ctx)
    ctx = with_pictures(layout.parts, with_loras(layout.parts, with_controls(layout.parts, ctx)))
    if ctx.model.image_only:
        views = (_alone(painted, ctx),)
    else:
        views = (*_spoken(method, layout, ctx, painted), *([painted] if painted else []))
    return tuple(replace(view, name=f"{view.name}{suffix}", when=span) for view in views)


def _alone(painted: View | None, ctx: Context) -> View:
    """The only view of a model without words."""
    if ctx.scene.caption or not any(amount(region) > 0 for region in ctx.scene.active_regions):
        ctx.heard(ctx.scene.caption)  # refuses, and says what to do
    return nothing_painted(ctx) if painted is None else painted


def _spoken(method: Method, layout: Layout, ctx: Context, painted: View | None) -> tuple[View, ...]:
    """The views that hear words; that of the whole canvas counts as much as the others leave it."""
    heard = _heard(layout, ctx)
    fragment = method.compile(heard, ctx)
    canvas = View(
        name="canvas",
        net=ctx.model.net,
        branches={
            "cond": fragment.told + ctx.overall(fragment.summary),
            "null": _avoided(*_counting(fragment.parts, heard.rest, _mute(layout, ctx, "negative")), ctx),
        },
        guide=ctx.guide(_scale(*_counting(fragment.parts, heard.rest, _mute(layout, ctx, "guidance")), ctx)),
        weight=_left(layout.rest, [*fragment.views, *([painted] if painted else [])]),
    )
    return canvas, *fragment.views


def _left(like: Tensor, views: Sequence[View]) -> Tensor:
    """[H, W]: what the views leave of the canvas, whose shares add up to 1; a rounding error is nothing."""
    left = torch.ones_like(like)
    for view in views:
        left = left - view.weight
    return torch.where(left > 1e-6, left, torch.zeros_like(left)) if views else left


def _heard(layout: Layout, ctx: Context) -> Layout:
    """The layout as words share it: without what exemplars paint; where that is all, the caption is heard."""
    parts = tuple(
        replace(part, share=part.share * (1 - own)) if (own := _painted(part.region, ctx)) else part
        for part in layout.parts
        if part.region.phrase
    )
    rest = _rest(layout, ctx)
    total = torch.stack([rest, *(part.share for part in parts)]).sum(0)
    mute = tuple(part for part in layout.parts if part.region.control is not None and not part.region.phrase)
    return Layout(parts=parts, rest=torch.where(total > 0, rest, torch.ones_like(rest)), mute=mute)


def _rest(layout: Layout, ctx: Context) -> Tensor:
    """[H, W]: the caption's share, with what weak exemplars leave of regions without words."""
    left = [part.share * (1 - _painted(part.region, ctx)) for part in layout.parts if not part.region.phrase]
    return torch.stack([layout.rest, *left]).sum(0) if left else layout.rest


def _painted(region: Region, ctx: Context) -> float:
    """How much of a region's share a network of exemplars takes away from words; an IP-Adapter takes nothing."""
    return amount(region) if ctx.model.exemplar is not None else 0.0


def _avoided(parts: Sequence[Part], rest: Tensor, ctx: Context) -> Conditioning:
    """The null branch: everywhere what the scene avoids, and in a region with a negative that too, with its share."""
    where = {"": rest}
    avoiding: dict[str, Region | None] = {"": None}
    for part in parts:
        own = part.region.negative
        where[own] = where[own] + part.share if own in where else part.share
        avoiding.setdefault(own, part.region)
    if len(avoiding) == 1:
        return Conditioning(tokens=(Tokens(ctx.avoided()),)) + ctx.overall_avoided()
    # The whole avoids what all of it avoids; otherwise regions' own negatives are heard only where they are.
    everywhere = [avoiding[own] for own, share in where.items() if bool((share > 1 - 1e-6).all())]
    tokens = tuple(Tokens(ctx.avoided(avoiding[own]), where=share) for own, share in where.items())
    return Conditioning(tokens=tokens) + ctx.overall_avoided(everywhere[0] if everywhere else None)


def _mute(layout: Layout, ctx: Context, dial: Literal["negative", "guidance"]) -> list[Part]:
    """The regions without words that turn a dial of the canvas's network: they are obeyed, or looked at, there."""
    shown = shown_parts(layout.parts, ctx)
    turned = [part for part in layout.parts if part in shown or part.region.control is not None]
    if dial == "negative":
        turned = [part for part in turned if part.region.negative]
    else:
        turned = [part for part in turned if part in shown or part.region.guidance is not None]
    mute = [part for part in turned if not part.region.phrase]
    return [
        replace(part, share=part.share * (1 - own)) if (own := _painted(part.region, ctx)) else part for part in mute
    ]


def _counting(parts: Sequence[Part], rest: Tensor, mute: Sequence[Part]) -> tuple[Sequence[Part], Tensor]:
    """The regions that are heard and those that are not, and what they leave of the canvas."""
    if not mute:
        return parts, rest
    counted = [*parts, *mute]
    return counted, (1 - torch.stack([part.share for part in counted]).sum(0)).clamp_min(0)


def _scale(parts: Sequence[Part], rest: Tensor, ctx: Context) -> float | Tensor:
    """The scene's guidance, or a map [H, W] where regions that are heard have their own."""
    scales = [ctx.guidance(), *(ctx.guidance(part.region) for part in parts)]
    if len(set(scales)) == 1:
        return scales[0]
    counted = torch.stack([rest, *(part.share for part in parts)])
    return (counted * counted.new_tensor(scales)[:, None, None]).sum(0) / counted.sum(0)
