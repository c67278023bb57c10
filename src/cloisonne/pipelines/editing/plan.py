"""Plans of an edit: views of both canvases, attention sharing between them, and refinements of the estimate."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from cloisonne.core.attention.edits import ReuseBackground, ShareSelf
from cloisonne.core.plan import AttentionEdit, Interval, Plan, Refine, View
from cloisonne.core.refines import Follow, Pin
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.methods.answers import OPTIONS
from cloisonne.methods.mrgd.method import (
    AFTER,
    BEFORE,
    FEATHER,
    Role,
    Windows,
    latent_box,
    policy_edits,
    regional_views,
    whole_from,
)
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.losses import KeywordSelection, energy
from cloisonne.pipelines.editing.pair import Pair
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.scene.conditions.edit_presets import Editing
from cloisonne.scene.region import Region

OF_TEXT = ("weight", "start, stop", "negative", "guidance", "strict")
"""Region options that apply to the region's text alone."""


def half_plan(pair: Pair, half: Prepared, stream: str, editing: Editing) -> Plan:
    """The plan of one canvas, on a stream of that name."""
    plan = half.compiled.plan
    views: tuple[View, ...] = tuple(replace(view, stream=stream) for view in plan.views)
    if editing.regions:
        whole = replace(_whole_view(pair, half), stream=stream) if editing.whole else None
        kinds = [region.edit.kind for region in pair.scene.active_regions if region.edit is not None]
        joins = whole_from(kinds, len(half.steps))
        views = regional_views(views, _windows(pair), whole, joins, crops=editing.crops)
    refines: list[Any] = list(plan.refines)
    return Plan(views=views, refines=tuple(replace(refine, stream=stream) for refine in refines))


def compares(pair: Pair, editing: Editing) -> bool:
    """Whether the canvas after uses features of the canvas before, so that a given image must be inverted."""
    preserves = len(pair.parts.redrawn) < len(pair.parts.edited)
    shares = editing.policies or editing.regions or editing.boost != "none" or editing.reuse_background
    return preserves or shares or bool(editing.loss_is or editing.loss_ip)


def joining(pair: Pair, both: Plan, editing: Editing, known: Tensor | None) -> Plan:
    """Attention edits and refinements between the canvases. known: latents [C, H, W] of a given image."""
    selection = KeywordSelection.of(pair, both, editing)
    edits: list[AttentionEdit] = [] if selection is None else list(selection.edits)
    refines: list[Refine] = []
    if editing.policies:
        edits += policy_edits(both.views, _roles(pair, editing))
    elif editing.self_attention_share > 0 and not pair.parts.redrawn:
        edits.append(ShareSelf(source=BEFORE, target=AFTER, when=Interval(0.0, editing.self_attention_share)))
    if editing.steers:
        refines.append(energy(pair, editing, selection))
    if editing.follow:
        free = pair.free()
        follow = Follow(source=BEFORE, target=AFTER, mask=free)
        refines.append(follow if known is None else Pin(known=known, mask=free, stream=AFTER))
    if editing.reuse_background:
        edits.append(ReuseBackground(source=BEFORE, target=AFTER, mask=pair.free()))
    return Plan(edits=tuple(edits), refines=tuple(refines))


def _whole_view(pair: Pair, half: Prepared) -> View:
    """A view of the whole image, conditioned on the caption and all phrases."""
    texts = [pair.scene.caption, *(region.phrase for region in half.scene.active_regions if region.phrase)]
    scene = half.scene.replace(caption=", ".join(filter(None, texts)), regions=(), method="caption")
    prepared = prepare(scene, pair.model, given=pair.picture)
    (view,) = prepared.compiled.plan.views
    return view


def _windows(pair: Pair) -> Windows:
    """Windows of the regions; a region's feather replaces the paper's."""
    placed = pair.placed()
    boxes = {p.name: latent_box(p.box, pair.grid) for p in placed}
    ratios = {p.name: min(1.0, 2 * p.region.feather) or FEATHER for p in placed}
    behind = frozenset(p.name for p in placed if p.region.priority < 0)
    return Windows(grid=pair.grid, boxes=boxes, ratios=ratios, backgrounds=behind)


def _roles(pair: Pair, editing: Editing) -> dict[str, Role]:
    roles: dict[str, Role] = {"": "background" if editing.regions else "whole"}
    for region in pair.scene.active_regions:
        plain: Role = "background" if region.priority < 0 else "foreground"
        roles[region.name or ""] = plain if region.edit is None else region.edit.kind
    return roles


def check_attention(model: Model, canvas: tuple[int, int], preset: str, editing: Editing) -> None:
    """Raise CapabilityError where the network's attention does not have what the settings change. canvas: (H, W)."""
    crosses = any(site.cross for site in model.net.sites(canvas))
    title = FAMILIES[model.family].title
    if (editing.policies or editing.boost != "none" or editing.keywords) and not crosses:
        raise CapabilityError(
            f'The model "{model.name}" ({title}) has no cross-attention, which the preset "{preset}" edits; choose the '
            'preset "flow" or "follow".'
        )
    if editing.reuse_background and not model.spec.computes_parts:
        raise CapabilityError(
            f'The model "{model.name}" ({title}) computes an image as a whole, so that it cannot reuse a background; '
            "leave reuse_background out, or load a diffusion transformer, such as FLUX.2 klein."
        )


def refuse_unused(regions: Sequence[Region]) -> None:
    """Raise SceneError if a region without any text after its edit sets an option that only applies to text."""
    for region in regions:
        if region.edit is None or region.edit.kind != "remove":
            continue
        if option := next((option for option in OF_TEXT if OPTIONS[option](region)), None):
            raise SceneError(
                f"The region sets {option}, but it removes something from a given image and has no phrase afterwards; "
                f'leave {option} out, or write it as an edit of kind change with a phrase for "to".',
                region=region.name,
            )
