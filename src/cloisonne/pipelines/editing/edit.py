"""Edit several regions at once and preserve the rest: generate an image before and after, or edit a given image.

Two canvases are denoised in one pass, each conditioned on its own half of the scene; the editing preset decides what
they share (``methods/mrgd/method.py``). A given image is inverted to its noise first, with stored offsets, or changed
without inversion (``flow.py``).
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cloisonne.core.attention.row_exchange import BackgroundMemory
from cloisonne.core.inversion.belm import Belm, invert_by_belm
from cloisonne.core.inversion.ddim import Inverted, Retrace, invert
from cloisonne.core.inversion.flowedit import FlowTiming
from cloisonne.core.inversion.null_text import Fitted, fit_null
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan
from cloisonne.core.run import Run
from cloisonne.core.sample import sample
from cloisonne.core.start import Start
from cloisonne.errors import SceneError
from cloisonne.methods.kinds import check
from cloisonne.methods.mrgd.method import AFTER, BEFORE
from cloisonne.models.finite import explained
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.flow import flow_start, timing_of
from cloisonne.pipelines.editing.losses import changed_objects
from cloisonne.pipelines.editing.pair import Pair
from cloisonne.pipelines.editing.plan import check_attention, compares, half_plan, joining, refuse_unused
from cloisonne.pipelines.editing.settings import chosen, editing_of
from cloisonne.pipelines.inpaint import CROP
from cloisonne.pipelines.inpaint import start as noised
from cloisonne.pipelines.output.files import PAIR
from cloisonne.pipelines.output.report import report_of
from cloisonne.pipelines.prepare import prepare
from cloisonne.pipelines.progress import OnStep, Reporter
from cloisonne.pipelines.prompt_syntax import understand
from cloisonne.pipelines.result import Result
from cloisonne.scene.before_after import halves
from cloisonne.scene.conditions.edit_presets import PRESETS, Editing
from cloisonne.scene.scene import Scene


def edit(
    scene: Scene,
    model: Model,
    *,
    seed: int | None = None,
    preset: str | None = None,
    on_step: OnStep | None = None,
    **changes: Any,
) -> Result:
    """:func:`cloisonne.edit` for a scene and a loaded model. seed: replaces the scene's."""
    began = time.perf_counter()
    if scene.hires is not None or scene.windows is not None:
        raise SceneError("hires and windows are for new images, and an edit takes neither; leave them out.")
    named, given = chosen(scene, preset, changes, segments=model.segmenter is not None)
    editing = editing_of(named, given)
    understood = understand(scene if seed is None else scene.replace(seed=seed), model)
    asked = understood.scene
    close_up = editing.close_up_for([region.edit.kind for region in asked.active_regions if region.edit is not None])
    for region in asked.active_regions:
        if region.edit is not None:
            check("edit", model, region.name)
    halves(asked)  # also checks the regions that a close-up crop leaves out
    cropped = _edited_only(asked) if close_up and asked.background is not None else asked
    pair = Pair.of(cropped, model, "multidiffusion" if editing.regions else None, close_up or CROP)
    check_attention(model, pair.grid, named, editing)
    run, reporter = Run(), Reporter(verb="edit", vae=model.vae, on_step=on_step)
    with explained(model):
        z = _sampled(pair, editing, reporter, run)
    changed = {name: value for name, value in vars(editing).items() if value != getattr(PRESETS[named], name)}
    resolved = pair.scene.replace(regions=asked.regions, editing={"preset": named, **changed})
    return _finished(pair, editing, z, resolved, run, began, understood.warnings)


def _edited_only(scene: Scene) -> Scene:
    """The scene with its edited regions alone, for a close-up crop."""
    return scene.replace(regions=tuple(region for region in scene.regions if region.edit is not None))


def _sampled(pair: Pair, editing: Editing, reporter: Reporter, run: Run) -> Tensor:
    """The denoised canvases before and after, [2, C, H, W]."""
    seed, steps = pair.before.scene.seed, pair.before.steps
    assert seed is not None, "a resolved scene has a seed"
    noise = Noise([Seed(seed, pair.seeds())], (pair.model.vae.channels, *pair.grid), pair.model.device)
    if editing.flow and ((timing := timing_of(pair, editing)).flows or editing.reuse_background):
        return _flowed(pair, editing, timing, noise, reporter, run)
    start = _start(pair, editing, noise, reporter, run)
    streams = start.plan.streams
    on_step = reporter.sampling(streams.index(AFTER))
    own = run.part()
    z = sample(start.plan, start.sampler, start.latents, steps, noise=noise, on_step=on_step, run=own)
    run.state(BackgroundMemory, lambda: own.state(BackgroundMemory, BackgroundMemory))
    before = z[streams.index(BEFORE)] if BEFORE in streams else pair.pin.known
    return torch.stack([before, z[streams.index(AFTER)]])


def _flowed(pair: Pair, editing: Editing, timing: FlowTiming, noise: Noise, reporter: Reporter, run: Run) -> Tensor:
    """The canvases before and after by FlowEdit, [2, C, H, W]. The canvas before is sampled first if not given."""
    drawn = 0
    if pair.picture is not None:
        known = pair.pin.known
    else:
        plan, drawn = half_plan(pair, pair.before, BEFORE, editing), timing.num_steps
        on_step = reporter.sampling(after=timing.count)
        steps, sampler = pair.before.steps, pair.before.sampler
        known = sample(plan, sampler, noise(), steps, noise=noise, on_step=on_step, run=run.part())[0]
    start, steps = flow_start(pair, editing, timing, known, noise()[0])
    streams = start.plan.streams
    on_step = reporter.sampling(streams.index(AFTER), before=drawn)
    own = run.part()
    z = sample(start.plan, start.sampler, start.latents, steps, noise=noise, on_step=on_step, run=own)
    run.state(BackgroundMemory, lambda: own.state(BackgroundMemory, BackgroundMemory))
    return z[[streams.index(BEFORE), streams.index(AFTER)]]


def _start(pair: Pair, editing: Editing, noise: Noise, reporter: Reporter, run: Run) -> Start:
    """The start of both canvases; of the canvas after alone where it uses no features of a given image."""
    fresh = noise()[0]
    second = half_plan(pair, pair.after, AFTER, editing)
    if pair.picture is not None and editing.follow and not compares(pair, editing):
        refuse_unused(pair.scene.active_regions)
        z = noised(pair.pin, fresh, pair.before.steps[0], 1.0)
        return Start(z[None], pair.before.sampler, second + joining(pair, second, editing, pair.pin.known))
    first = half_plan(pair, pair.before, BEFORE, editing)
    z, known, solver = {BEFORE: fresh, AFTER: fresh}, None, pair.before.sampler
    if pair.picture is not None:
        known = pair.pin.known
        found, first, second = _inverted(pair, editing, first, second, reporter, run)
        z = {BEFORE: found.noise[0], AFTER: pair.renoised(found.noise[0], fresh, editing.fresh_noise)}
        solver = found.sampler
    both = first + second
    both += joining(pair, both, editing, known)
    if isinstance(solver, Retrace):
        solver = replace(solver, solver=pair.before.sampler, places=(both.streams.index(BEFORE),))
    elif isinstance(solver, Belm):
        solver = replace(solver, place=both.streams.index(BEFORE))
    return Start(both.stack(z), solver, both)


def _inverted(
    pair: Pair, editing: Editing, first: Plan, second: Plan, reporter: Reporter, run: Run
) -> tuple[Inverted, Plan, Plan]:
    """The inverted noise of a given image, and both canvases' plans for sampling.

    Stored offsets restore the first canvas under any conditioning, so it needs no guidance; O-BELM does so without.
    Fitted null embeddings condition both canvases.
    """
    plain = prepare(
        pair.parts.before.replace(guidance=1.0, method=pair.before.scene.method), pair.model, given=pair.picture
    )
    unguided = half_plan(pair, plain, BEFORE, editing)
    known, steps = pair.pin.known[None], pair.before.steps
    inversion = editing.inversion_of(pair.model.schedule.prediction)
    if inversion == "belm":
        found = invert_by_belm(unguided, known, steps, on_step=reporter.inversion(), run=run.part())
        return found, unguided, second
    found = invert(unguided, known, steps, on_step=reporter.inversion(), run=run.part())
    if inversion == "direct":
        return found, first if editing.policies else unguided, second

    fitted = fit_null(first, found.path, steps, run=run, on_step=reporter.fitting("null text"))
    nulls = {view.name: view.branches["null"] for view in fitted.views if isinstance(view.branches.get("null"), Fitted)}
    views = tuple(
        replace(view, branches={**view.branches, "null": nulls[view.name]}) if view.name in nulls else view
        for view in second.views
    )
    return replace(found, sampler=pair.before.sampler), fitted, replace(second, views=views)


def _finished(
    pair: Pair, editing: Editing, z: Tensor, scene: Scene, run: Run, began: float, warnings: tuple[str, ...]
) -> Result:
    """Decode both canvases [2, C, H, W] and report the run."""
    pastes = pair.model.segmenter is not None if editing.paste_changed_only is None else editing.paste_changed_only
    before, after, raw = pair.pictures(z, changed_objects(pair) if pastes else None)
    compiled = (pair.before.compiled, pair.after.compiled)
    found = [*warnings, *(warning for half in compiled for warning in half.warnings)]
    difference = pair.difference_outside(before, after)
    memory = run.state(BackgroundMemory, BackgroundMemory)
    report = report_of(
        scene,
        pair.model,
        run,
        began=began,
        outputs=[{"path": None, "sha256": None} for _ in PAIR],
        dropped=sorted({name for half in compiled for name in half.dropped}),
        warnings=dict.fromkeys(found),
        outside={
            "identical_outside": difference == 0,
            "max_difference_outside": difference,
            "max_difference_outside_raw": pair.difference_outside(before, raw),
            **({"background_memory": memory.num_bytes} if editing.reuse_background else {}),
        },
    )
    return Result(
        images=[after],
        latents=z[1:],
        scene=scene,
        model=pair.model,
        report=report,
        run=run,
        named={"before": before, "after": after, "difference": _difference(before, after), "raw": raw},
        difference_outside=lambda image: pair.difference_outside(before, image),
    )


def _difference(before: Image.Image, after: Image.Image) -> Image.Image:
    """Absolute difference of two images, RGB."""
    a, b = (np.asarray(image.convert("RGB"), int) for image in (before, after))
    return Image.fromarray(np.abs(a - b).astype(np.uint8))
