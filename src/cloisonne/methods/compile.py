"""Compile the placed regions of a scene to one plan: the method's text conditioning plus what each condition adds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from cloisonne.core.plan import Conditioning, Interval, Plan, View
from cloisonne.core.refines import Clamp
from cloisonne.methods.base import Method
from cloisonne.methods.context import Context, tokens_of
from cloisonne.methods.contribution import ConditionKind, Contribution
from cloisonne.methods.kinds import KINDS, check_region, check_scene, given_kinds
from cloisonne.methods.layout import Layout, Part, Placed, layout
from cloisonne.methods.region_options import idle, warnings
from cloisonne.methods.scene_warnings import guidance_warnings, joint_warnings
from cloisonne.scene.conditions.kinds import CONDITIONS
from cloisonne.scene.prompt import switches
from cloisonne.scene.region import Region
from cloisonne.scene.shapes.geometry import area


@dataclass(frozen=True, kw_only=True, eq=False)
class Compiled:
    """A scene as a plan.

    Attributes:
        seeds: (seed, mask [H, W]) of the regions with noise of their own.
        dropped: names of the regions that do not fit the model's text.
        warnings: what of the scene is not honoured, one sentence each.
        translated: if a condition of a region is generated outside of the plan (a concept), the intervals of the steps
            and the share [H, W] in [0, 1] that the plan leaves to it: what no other region takes.
    """

    plan: Plan
    seeds: tuple[tuple[int, Tensor], ...]
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]
    translated: tuple[tuple[Interval, Tensor], ...] = ()


def compile(method: Method, placed: Sequence[Placed], ctx: Context) -> Compiled:
    """Compile the scene's regions to a plan. Those of weight 0 or with an empty interval are absent.

    Raises:
        SceneError: a region's text is too long, or an option of it is refused.
        CapabilityError: the model does not support a condition. Both name the region.
    """
    check_scene(ctx.scene, ctx.model)
    for p in placed:
        check_region(p.region, ctx.scene, ctx.model)
        idle(p.region, ctx.scene, ctx.model)
    active = sorted((p for p in placed if p.region.active), key=lambda p: (-area(p.box), p.name))
    # Where regions of one priority and size do not all fit, the scene's first ones stay.
    fitting = _fitting(method, sorted(active, key=lambda p: (-area(p.box), placed.index(p))), ctx)
    used = [p for p in active if p in fitting]
    dropped = tuple(p.name for p in active if p not in used)
    outside = next((p for p in used if any(kind.outside_plan for kind in given_kinds(p.region, ctx.scene))), None)
    plan, translated = Plan(), []
    spans = _spans(used, ctx)
    for index, span in enumerate(spans):
        now, inside = ctx.at_progress(span.start), _active(used, span, ctx)
        part = _interval(method, layout(inside, now), now, span, index)
        if outside is not None:
            left = _left_to(outside, layout([outside, *inside], now))
            translated.append((span, left))
            views = tuple(replace(view, weight=view.weight * (1 - view.crop(left))) for view in part.views)
            part = replace(part, views=views)
        plan += part
    if ctx.model.clip is not None:
        plan += Plan(refines=(Clamp(limit=ctx.model.clip),))
    shares = layout(used, ctx, weighted=False).parts
    return Compiled(
        plan=plan.without_empty_views(),
        seeds=tuple((part.region.seed, part.share) for part in shares if part.region.seed is not None),
        dropped=dropped,
        warnings=(
            *guidance_warnings(ctx.scene, ctx.model),
            *joint_warnings(ctx.scene, ctx.model),
            *(text for p in used for text in warnings(p.region, ctx.scene, ctx.model)),
            *(text for kind in KINDS.values() for text in kind.warnings(ctx.scene, used, ctx.model)),
        ),
        translated=tuple(translated),
    )


def _fitting(method: Method, active: Sequence[Placed], ctx: Context) -> list[Placed]:
    """The regions whose texts fit the model's text encoder, next to the caption, in every interval of the steps."""
    used = list(active)
    for moment in sorted({0.0} | _switches(active, ctx) - {1.0}):
        now = {p.name: p.at_progress(moment, ctx.num_steps) for p in used}
        fits = method.fitting([p for p in now.values() if p.region.phrase], ctx.at_progress(moment))
        used = [p for p in used if now[p.name] in fits or not now[p.name].region.phrase]
    return used


def _spans(placed: Sequence[Placed], ctx: Context) -> list[Interval]:
    """The intervals of the steps in which the same regions are active with the same texts."""
    edges = {0.0, 1.0} | {edge for p in placed for edge in (p.region.start, p.region.stop)}
    return [Interval(start, stop) for start, stop in pairwise(sorted(edges | _switches(placed, ctx)))]


def _switches(placed: Sequence[Placed], ctx: Context) -> set[float]:
    """The fractions of the steps at which a text changes."""
    texts = [ctx.scene.caption, ctx.scene.negative]
    texts += [text for p in placed for text in (p.region.phrase, p.region.negative)]
    return {edge for text in texts for edge in switches(text, ctx.num_steps)}


def _active(used: Sequence[Placed], span: Interval, ctx: Context) -> list[Placed]:
    """The regions that are active in an interval, with their texts of that interval, if any."""
    inside = (p for p in used if p.region.start <= span.start and span.stop <= p.region.stop)
    now = (p.at_progress(span.start, ctx.num_steps) for p in inside)
    return [p for p in now if any(_in_plan(kind) for kind in given_kinds(p.region, ctx.scene))]


def _in_plan(kind: ConditionKind) -> bool:
    """Whether a condition of this kind alone makes a region part of the plan: a phrase, or one that needs none."""
    return not kind.outside_plan and (bool(kind.method) or CONDITIONS[kind.name].alone)


def _left_to(outside: Placed, whole: Layout) -> Tensor:
    """[H, W]: the share of a region outside of the plan among all regions, and 1 where none is."""
    total = torch.stack([part.share for part in whole.parts]).sum(0)
    own = next(part.share for part in whole.parts if part.name == outside.name)
    return torch.where(total > 0, own / torch.where(total > 0, total, 1), 1)


def _interval(method: Method, layout: Layout, ctx: Context, span: Interval, index: int) -> Plan:
    """One interval: the method's views with what each condition contributes, those of other networks, and refines."""
    added = Contribution()
    for kind in KINDS.values():
        added += kind.contribute(layout.parts, ctx)
    ctx = replace(ctx, summarised=bool(added.cond.controlnets))
    if ctx.model.image_only:
        views = (_only_view(added, ctx),)
    else:
        views = (*(_joined(view, added, ctx) for view in _text_views(method, layout, ctx, added)), *added.views)
    refines: tuple[Any, ...] = added.refines
    return Plan(
        views=tuple(replace(view, interval_index=index, when=span) for view in views),
        refines=tuple(replace(refine, when=refine.when & span) for refine in refines),
    )


def _joined(view: View, added: Contribution, ctx: Context) -> View:
    """A text-conditioned view with the conditioning of all views and the contributions to each branch."""
    parts, shared = {"cond": added.cond, "null": added.null}, ctx.shared()
    branches = {}
    for name, branch in view.branches.items():
        assert isinstance(branch, Conditioning), "a method's branches do not depend on the step"
        branches[name] = branch + shared + parts[name]
    return replace(view, branches=branches)


def _only_view(added: Contribution, ctx: Context) -> View:
    """The only view of a model that is conditioned on images alone."""
    if ctx.scene.caption or not any(_taken(region, ctx) > 0 for region in ctx.scene.active_regions):
        ctx.encoder.text(ctx.scene.caption)  # raises CapabilityError with advice
    return added.views[0] if added.views else next(kind.idle_view(ctx) for kind in KINDS.values() if kind.idle_view)


def _text_views(method: Method, layout: Layout, ctx: Context, added: Contribution) -> tuple[View, ...]:
    """The views that text conditions; that of the whole canvas has the weight that the others leave."""
    worded = _of_text(layout, ctx)
    fragment = method.compile(worded, ctx)
    negative = _with_phraseless(fragment.parts, worded.rest, _without_phrase(layout, ctx, "negative"))
    guided = _with_phraseless(fragment.parts, worded.rest, _without_phrase(layout, ctx, "guidance"))
    canvas = View(
        name="canvas",
        net=ctx.model.net,
        branches={"cond": fragment.text + ctx.summary(fragment.summary), "null": _negative(*negative, ctx)},
        guide=ctx.guide(_scale(*guided, ctx)),
        weight=_left(layout.rest, [*fragment.views, *added.views]),
    )
    return canvas, *fragment.views


def _left(like: Tensor, views: Sequence[View]) -> Tensor:
    """[H, W]: what the views leave of the canvas, whose shares add up to 1, without rounding errors."""
    left = torch.ones_like(like)
    for view in views:
        left = left - view.weight
    return torch.where(left > 1e-6, left, torch.zeros_like(left)) if views else left


def _of_text(layout: Layout, ctx: Context) -> Layout:
    """The layout as texts share it, without what other networks take; where that is all, the caption conditions."""
    parts = tuple(
        replace(part, share=part.share * (1 - own)) if (own := _taken(part.region, ctx)) else part
        for part in layout.parts
        if part.region.phrase
    )
    rest = _rest(layout, ctx)
    total = torch.stack([rest, *(part.share for part in parts)]).sum(0)
    captioned = tuple(
        part
        for part in layout.parts
        if not part.region.phrase and any(kind.captioned for kind in given_kinds(part.region, ctx.scene))
    )
    return Layout(parts=parts, rest=torch.where(total > 0, rest, torch.ones_like(rest)), captioned=captioned)


def _rest(layout: Layout, ctx: Context) -> Tensor:
    """[H, W]: the caption's share, with what other networks leave of regions without a phrase."""
    left = [part.share * (1 - _taken(part.region, ctx)) for part in layout.parts if not part.region.phrase]
    return torch.stack([layout.rest, *left]).sum(0) if left else layout.rest


def _taken(region: Region, ctx: Context) -> float:
    """The fraction of a region's share that networks of its conditions take from text."""
    return min(1.0, sum(kind.takes(region, ctx.model) for kind in given_kinds(region, ctx.scene)))


def _negative(parts: Sequence[Part], rest: Tensor, ctx: Context) -> Conditioning:
    """The null branch: the scene's negative, followed in a region by the region's own, weighted by the shares."""
    shares = {"": rest}
    owners: dict[str, Region | None] = {"": None}
    for part in parts:
        own = part.region.negative
        shares[own] = shares[own] + part.share if own in shares else part.share
        owners.setdefault(own, part.region)
    if len(owners) == 1:
        return Conditioning(tokens=(tokens_of(ctx.encode_negative()),)) + ctx.negative_summary()
    # The summary is a negative that covers the whole; otherwise regions' own negatives count only where they are.
    everywhere = [owners[own] for own, share in shares.items() if bool((share > 1 - 1e-6).all())]
    tokens = tuple(tokens_of(ctx.encode_negative(owners[own]), share) for own, share in shares.items())
    return Conditioning(tokens=tokens) + ctx.negative_summary(everywhere[0] if everywhere else None)


def _without_phrase(layout: Layout, ctx: Context, option: Literal["negative", "guidance"]) -> list[Part]:
    """The regions without a phrase that set an option of the text-conditioned view."""
    found = [
        part
        for part in layout.parts
        if not part.region.phrase
        and any(option in kind.canvas_options(part.region, ctx.model) for kind in given_kinds(part.region, ctx.scene))
    ]
    return [
        replace(part, share=part.share * (1 - own)) if (own := _taken(part.region, ctx)) else part for part in found
    ]


def _with_phraseless(parts: Sequence[Part], rest: Tensor, found: Sequence[Part]) -> tuple[Sequence[Part], Tensor]:
    """The regions with a phrase and those found without, and the share [H, W] that they leave to the caption."""
    if not found:
        return parts, rest
    counted = [*parts, *found]
    return counted, (1 - torch.stack([part.share for part in counted]).sum(0)).clamp_min(0)


def _scale(parts: Sequence[Part], rest: Tensor, ctx: Context) -> float | Tensor:
    """The scene's guidance, or a map [H, W] where regions have their own."""
    scales = [ctx.guidance(), *(ctx.guidance(part.region) for part in parts)]
    if len(set(scales)) == 1:
        return scales[0]
    counted = torch.stack([rest, *(part.share for part in parts)])
    return (counted * counted.new_tensor(scales)[:, None, None]).sum(0) / counted.sum(0)
