"""Edits without inversion: FlowEdit where an object changes, next to regions that are painted anew."""

from dataclasses import replace

import torch
from torch import Tensor

from cloisonne.core.inversion.flowedit import FlowTiming, last_steps
from cloisonne.core.plan import Plan, Step
from cloisonne.core.start import Start
from cloisonne.methods.mrgd.method import AFTER, BEFORE
from cloisonne.pipelines.editing.pair import Pair
from cloisonne.pipelines.editing.plan import half_plan, joining
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.scene.conditions.edit_presets import Editing


def timing_of(pair: Pair, editing: Editing) -> FlowTiming:
    """Where and when the edited regions change, by the kind of each edit."""
    num_steps = len(pair.before.steps)
    anew = torch.zeros(pair.grid, device=pair.model.device)
    counts: list[tuple[int, Tensor]] = []
    for region in pair.scene.active_regions:
        if region.edit is not None:
            cells, share = pair.cells_of(region.name or ""), editing.flow_start_of(region.edit)
            if share is None:
                anew = torch.maximum(anew, cells)
            else:
                counts.append((max(1, round(num_steps * share)), cells))
    return FlowTiming(source=BEFORE, target=AFTER, num_steps=num_steps, counts=tuple(counts), anew=anew)


def flow_start(
    pair: Pair, editing: Editing, timing: FlowTiming, known: Tensor, fresh: Tensor
) -> tuple[Start, tuple[Step, ...]]:
    """The start of FlowEdit, and its steps. known: latents [C, H, W] before. fresh: unit noise [C, H, W]."""
    both = half_plan(pair, _source(pair, editing), BEFORE, editing) + half_plan(pair, pair.after, AFTER, editing)
    both += joining(pair, both, replace(editing, follow=False), None) + Plan(refines=timing.follows())
    solver = timing.solver(both, pair.before.sampler, editing.n_avg)
    start = Start(timing.latents(both, known, fresh), solver, both)
    return start, last_steps(pair.before.steps, timing.count)


def _source(pair: Pair, editing: Editing) -> Prepared:
    """The half before with the source's guidance, also where an edited region has a guidance of its own."""
    before, own = pair.parts.before, pair.before.scene
    regions = tuple(
        region.replace(guidance=None) if region.name in pair.parts.edited else region for region in before.regions
    )
    fields = {name: getattr(own, name) for name in ("seed", "width", "height", "method")}
    return prepare(
        before.replace(regions=regions, guidance=editing.source_guidance, **fields), pair.model, given=pair.picture
    )
