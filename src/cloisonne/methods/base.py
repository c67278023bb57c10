"""What all methods share: where regions lie on the latents, which of them count when, and the plan they compile to.

Letters as in ``core``: H W latent pixels, N tokens, D width. Regions are always taken in their canonical order, area
descending, then name, so that their order in the scene changes nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cloisonne.core.guidance import Cfg, Rescale
from cloisonne.core.plan import Conditioning, Interval, Plan, Tokens, View
from cloisonne.core.refines import Clamp
from cloisonne.errors import SceneError
from cloisonne.models.model import Model
from cloisonne.scene.geometry import Box, area
from cloisonne.scene.layers import region_weights, uncovered
from cloisonne.scene.masks import Mask, resized
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A region where it lies on the canvas. box: fractions of the canvas. mask: [H, W] in [0, 1]."""

    region: Region
    box: Box
    mask: Mask

    @property
    def name(self) -> str:
        """The region's name, unique in its scene."""
        return self.region.name or ""


def place(region: Region, soft: Mask, box: Box, grid: tuple[int, int]) -> Placed:
    """A region whose mask on the canvas, at any size, is ``soft``, on a grid (H, W) of latents."""
    return Placed(region=region, box=box, mask=resized(soft, *grid))


def box_of(region: Region, soft: Mask) -> Box:
    """The box by which words and position tokens say where a region is.

    Of a grey mask, the box around what is at least half as opaque as its most opaque pixel.
    """
    return region.bounding_box(float(soft.max()) / 2)


@dataclass(frozen=True, eq=False)
class Context:
    """The resolved scene, the model, the grid (H, W) of latents, and how ids [N] become tokens [N, D]."""

    scene: Scene
    model: Model
    grid: tuple[int, int]
    encode: Callable[[Sequence[int]], Tensor]
    _known: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def tokens(self, ids: Sequence[int]) -> Tensor:
        """[N, D], on the model's device; the same ids are encoded once."""
        key = tuple(ids)
        if key not in self._known:
            self._known[key] = self.encode(ids)
        return self._known[key]

    def heard(self, text: str, region: str | None = None) -> Tensor:
        """[N, D]: plain text, padded as Stable Diffusion does; SceneError about the region where it is too long."""
        return self.tokens(self.model.text.ids(text, region=region))

    def avoided(self, region: Region | None = None) -> Tensor:
        """[N, D]: what the scene avoids, and a region's own negative behind it."""
        own, name = (region.negative, region.name) if region else ("", None)
        return self.heard(", ".join(filter(None, [self.scene.negative, own])), name)

    def tensor(self, mask: Mask) -> Tensor:
        """A mask [H, W] as a tensor on the model's device."""
        return torch.from_numpy(np.ascontiguousarray(mask)).to(self.model.device)

    def guidance(self, region: Region | None = None) -> float:
        """The region's scale of guidance, or the scene's."""
        own = None if region is None else region.guidance
        scale = self.scene.guidance if own is None else own
        assert scale is not None, "a resolved scene has guidance"
        return scale

    def guide(self, scale: float | Tensor) -> Cfg:
        """Classifier-free guidance with the scene's interval and rescaling; scale: a number or a map [H, W]."""
        amount = self.scene.guidance_rescale
        return Cfg(
            scale=scale,
            interval=Interval(*self.scene.guidance_interval),
            rescale=Rescale(amount, self.model.schedule.prediction) if amount else None,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A region in one part of the walk, on the model's device.

    mask: [H, W], what of the region is not hidden by a higher priority. share: [H, W], how much the region counts among
    all that is heard at a pixel; the shares of all regions and the caption's add up to 1.
    """

    region: Region
    box: Box
    mask: Tensor
    share: Tensor

    @property
    def name(self) -> str:
        """The region's name, unique in its scene."""
        return self.region.name or ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """The regions that count in one part of the walk, in canonical order. rest: [H, W], the caption's share."""

    parts: tuple[Part, ...]
    rest: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Fragment:
    """What a method makes of a layout.

    told: what the view of the whole canvas hears. parts: the regions that are heard there; their negatives and guidance
    join it. views: those of regions that have one of their own, so that the canvas counts less where they are.
    """

    told: Conditioning
    parts: tuple[Part, ...] = ()
    views: tuple[View, ...] = ()


class Method(Protocol):
    """How regions reach the network."""

    def fitting(self, placed: Sequence[Placed], ctx: Context) -> list[Placed]:
        """The regions there is room for; the others are dropped as a whole, lowest priority first, then smallest."""
        ...

    def compile(self, layout: Layout, ctx: Context) -> Fragment:
        """What the network is told in one part of the walk."""
        ...

    def unused(self, region: Region) -> Iterable[str]:
        """The region's fields that have no effect here although they differ from their defaults."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Compiled:
    """A scene as a plan. seeds: (seed, mask [H, W]) of the regions with noise of their own. dropped: names."""

    plan: Plan
    seeds: tuple[tuple[int, Tensor], ...]
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]


def compile(method: Method, placed: Sequence[Placed], ctx: Context) -> Compiled:
    """The plan of the scene's regions; those of weight 0 or an empty interval are as if they were not there.

    Raises SceneError or CapabilityError, naming the region, where the method cannot say what is asked.
    """
    counting = sorted((p for p in placed if p.region.active), key=lambda p: (-area(p.box), p.name))
    kept = method.fitting(counting, ctx)
    dropped = tuple(p.name for p in counting if p not in kept)
    plan = Plan()
    spans = _spans(kept)
    for span in spans:
        active = [p for p in kept if p.region.start <= span.start and span.stop <= p.region.stop]
        views = _views(method, layout(active, ctx), ctx, span, suffix=f" from {span.start}" if len(spans) > 1 else "")
        plan += Plan(views=views)
    if ctx.model.clip is not None:
        plan += Plan(refines=(Clamp(limit=ctx.model.clip),))
    shares = layout(kept, ctx, weighted=False).parts
    return Compiled(
        plan=plan.without_empty_views(),
        seeds=tuple((part.region.seed, part.share) for part in shares if part.region.seed is not None),
        dropped=dropped,
        warnings=tuple(_warnings(method, kept, ctx.scene)),
    )


def layout(placed: Sequence[Placed], ctx: Context, *, weighted: bool = True) -> Layout:
    """The overlap rule on the grid of latents. weighted: by the regions' weights; else all that count, count alike."""
    masks, priorities = [p.mask for p in placed], [p.region.priority for p in placed]
    seen = region_weights(masks, [1.0] * len(placed), priorities, ctx.scene.overlap)
    own = [p.region.weight if weighted else 1.0 for p in placed]
    weights = region_weights(masks, own, priorities, ctx.scene.overlap)
    rest = uncovered(weights, *ctx.grid)
    total = np.stack([*weights, rest]).sum(axis=0)
    return Layout(
        parts=tuple(
            Part(region=p.region, box=p.box, mask=ctx.tensor(mask), share=ctx.tensor(weight / total))
            for p, mask, weight in zip(placed, seen, weights, strict=True)
        ),
        rest=ctx.tensor(rest / total),
    )


def within_budget(placed: Sequence[Placed], costs: Sequence[int], room: int) -> list[Placed]:
    """The regions whose costs in tokens fit ``room`` together: while they do not, the one of lowest priority is left
    out, of equal ones the smallest. Raises SceneError for a region that does not even fit alone.
    """
    for p, cost in zip(placed, costs, strict=True):
        if cost > room:
            raise SceneError(
                f"Its phrase takes {cost} tokens with those for its place, but beside the caption the model reads at "
                f"most {room}; shorten the phrase or the caption.",
                region=p.name,
            )
    kept = list(zip(placed, costs, strict=True))
    while sum(cost for _, cost in kept) > room:
        # The last of the least: of equal ones, the one that comes last in canonical order.
        least = min(reversed(kept), key=lambda entry: (entry[0].region.priority, area(entry[0].box)))
        kept.remove(least)
    return [p for p, _ in kept]


def _spans(placed: Sequence[Placed]) -> list[Interval]:
    """The parts of the walk in which the same regions count."""
    edges = {0.0, 1.0} | {edge for p in placed for edge in (p.region.start, p.region.stop)}
    return [Interval(start, stop) for start, stop in pairwise(sorted(edges))]


def _views(method: Method, layout: Layout, ctx: Context, span: Interval, suffix: str) -> tuple[View, ...]:
    fragment = method.compile(layout, ctx)
    shares = [layout.rest, *(part.share for part in fragment.parts)]
    canvas = View(
        name="canvas",
        net=ctx.model.net,
        branches={"cond": fragment.told, "null": _avoided(fragment.parts, layout.rest, ctx)},
        guide=ctx.guide(_scale(fragment.parts, layout.rest, ctx)),
        weight=torch.stack(shares).sum(0) if fragment.views else torch.ones_like(layout.rest),
    )
    return tuple(replace(view, name=f"{view.name}{suffix}", when=span) for view in (canvas, *fragment.views))


def _avoided(parts: Sequence[Part], rest: Tensor, ctx: Context) -> Conditioning:
    """The null branch: everywhere what the scene avoids, and in a region with a negative that too, with its share."""
    where = {"": rest}
    told = {"": ctx.avoided()}
    for part in parts:
        own = part.region.negative
        told[own] = ctx.avoided(part.region)
        where[own] = where[own] + part.share if own in where else part.share
    if len(told) == 1:
        return Conditioning(tokens=(Tokens(told[""]),))
    return Conditioning(tokens=tuple(Tokens(tokens, where=where[own]) for own, tokens in told.items()))


def _scale(parts: Sequence[Part], rest: Tensor, ctx: Context) -> float | Tensor:
    """The scene's guidance, or a map [H, W] where regions that are heard have their own."""
    scales = [ctx.guidance(), *(ctx.guidance(part.region) for part in parts)]
    if len(set(scales)) == 1:
        return scales[0]
    counted = torch.stack([rest, *(part.share for part in parts)])
    return (counted * counted.new_tensor(scales)[:, None, None]).sum(0) / counted.sum(0)


def _warnings(method: Method, kept: Sequence[Placed], scene: Scene) -> Iterable[str]:
    for p in kept:
        if unused := list(method.unused(p.region)):
            fields = " and ".join(unused)
            yield f'Region "{p.name}": the method "{scene.method}" does not use its {fields}.'
