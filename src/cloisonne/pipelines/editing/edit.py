"""Edit several regions at once and preserve the rest: generate an image before and after, or edit a given image.

Two canvases are denoised in one pass, each conditioned on its own half of the scene; the editing preset decides what
they share (``methods/mrgd/method.py``). A given image is inverted to its noise first, with stored offsets.
"""

import time
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from cloisonne.core.inversion.ddim import Inverted, Retrace, invert
from cloisonne.core.inversion.null_text import Fitted, fit_null
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan, Step
from cloisonne.core.predict import Run
from cloisonne.core.sample import Watch, sample
from cloisonne.methods.mrgd.method import AFTER, BEFORE
from cloisonne.models.finite import explained
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.losses import changed_objects
from cloisonne.pipelines.editing.pair import Pair
from cloisonne.pipelines.editing.plan import compares, half_plan, joining, refuse_unused
from cloisonne.pipelines.editing.progress import EditStep, Progress
from cloisonne.pipelines.editing.result import Edited
from cloisonne.pipelines.editing.settings import editing_of
from cloisonne.pipelines.inpaint import CROP
from cloisonne.pipelines.inpaint import start as picture_start
from cloisonne.pipelines.prepare import prepare
from cloisonne.pipelines.prompt_syntax import understand
from cloisonne.pipelines.result import REPORT_VERSION
from cloisonne.scene.before_after import halves
from cloisonne.scene.conditions.edit_presets import PRESETS, Editing
from cloisonne.scene.scene import Scene


def edit(
    scene: Scene,
    model: Model,
    *,
    seed: int | None = None,
    preset: str | None = None,
    callback_on_step_end: Progress = lambda step: None,
    **changes: Any,
) -> Edited:
    """Generate a scene with edits as two images, before and after; a background is the image before.

    Args:
        scene: A scene with edits.
        model: The model.
        seed: Replaces the scene's seed.
        preset: An editing preset, one of ``scene.conditions.edit_presets.PRESETS``. If left out: the scene's own, else
            "mrgd", or "follow" where the model has no segmenter.
        callback_on_step_end: Called after each step of inversion and of sampling; may raise
            :class:`~cloisonne.errors.Cancelled`.
        changes: Fields of the preset to change, as in the scene's ``editing``, such as ``self_attention_share``: the
            fraction of the steps, in [0, 1], in which unchanged objects take their self-attention from the canvas
            before.

    Raises:
        SceneError, ImageError, CapabilityError: The scene cannot be edited.
    """
    began = time.perf_counter()
    given = {**({} if preset else dict(scene.editing)), **changes}
    named = preset or str(given.pop("preset", "follow" if model.segmenter is None else "mrgd"))
    editing = editing_of(named, given)
    understood = understand(scene if seed is None else scene.replace(seed=seed), model)
    asked = understood.scene
    close_up = editing.close_up_for([region.edit.kind for region in asked.active_regions if region.edit is not None])
    halves(asked)  # also checks the regions that a close-up crop leaves out
    cropped = _edited_only(asked) if close_up and asked.background is not None else asked
    pair = Pair.of(cropped, model, "multidiffusion" if editing.regions else None, close_up or CROP)
    run = Run()
    with explained(model):
        z = _denoised(pair, editing, callback_on_step_end, run)
    before, after, raw = pair.pictures(z, changed_objects(pair) if editing.paste_changed_only else None)
    difference = pair.difference_outside(before, after)
    changed = {name: value for name, value in vars(editing).items() if value != getattr(PRESETS[named], name)}
    resolved = pair.scene.replace(regions=asked.regions, editing={"preset": named, **changed})
    compiled = (pair.before.compiled, pair.after.compiled)
    report = {
        "version": REPORT_VERSION,
        "outputs": [{"path": None, "sha256": None} for _ in range(3)],
        "scene": resolved.to_dict(complete=True),
        "model": dict(model.record()),
        "sampler_of_checkpoint": model.scheduler,
        "seconds": round(time.perf_counter() - began, 3),
        "forwards": run.forwards,
        "rows": run.rows,
        "dropped": sorted({name for half in compiled for name in half.dropped}),
        "warnings": list(
            dict.fromkeys([*understood.warnings, *(warning for half in compiled for warning in half.warnings)])
        ),
        "identical_outside": difference == 0,
        "max_difference_outside": difference,
        "max_difference_outside_raw": pair.difference_outside(before, raw),
    }
    return Edited(before=before, after=after, raw=raw, scene=resolved, model=model, report=report)


def _edited_only(scene: Scene) -> Scene:
    """The scene with its edited regions alone, for a close-up crop."""
    return scene.replace(regions=tuple(region for region in scene.regions if region.edit is not None))


def _denoised(pair: Pair, editing: Editing, callback: Progress, run: Run) -> Tensor:
    """The denoised canvases before and after, [2, C, H, W]."""
    device = pair.model.device
    assert pair.before.scene.seed is not None, "a resolved scene has a seed"
    shape = (pair.model.vae.channels, *pair.grid)
    noise = Noise([Seed(pair.before.scene.seed, pair.seeds())], shape, device)
    start = noise()[0]
    second = half_plan(pair, pair.after, AFTER, editing)
    if pair.picture is not None and editing.follow and not compares(pair, editing):
        refuse_unused(pair.scene.active_regions)
        return _repainted(pair, second, editing, start, noise, callback, run)
    first = half_plan(pair, pair.before, BEFORE, editing)
    starts, known, solver = {BEFORE: start, AFTER: start}, None, pair.before.sampler
    if pair.picture is not None:
        known = pair.pin().known
        found, first, second = _inverted(pair, editing, first, second, known, callback, run)
        starts = {BEFORE: found.noise[0], AFTER: pair.renoised(found.noise[0], start, editing.fresh_noise)}
        solver = found.sampler
    both = first + second
    both += joining(pair, both, editing, known)
    place = {name: both.streams.index(name) for name in (BEFORE, AFTER)}
    if isinstance(solver, Retrace):
        solver = replace(solver, solver=pair.before.sampler, places=(place[BEFORE],))
    sampling = Run()
    z = both.stack(starts)
    watch = _watch("editing", place[AFTER], pair, callback)
    z = sample(both, solver, z, pair.before.steps, noise=noise, watch=watch, run=sampling)
    run.forwards += sampling.forwards
    run.rows += sampling.rows
    return z[[place[BEFORE], place[AFTER]]]


def _watch(doing: Literal["inversion", "editing"], place: int, pair: Pair, callback: Progress) -> Watch:
    """A watcher that reports the canvas at index ``place`` of the batch."""
    return lambda step, z, x0: callback(EditStep(doing=doing, step=step, x0=x0[place], vae=pair.model.vae))


def _repainted(
    pair: Pair, second: Plan, editing: Editing, start: Tensor, noise: Noise, callback: Progress, run: Run
) -> Tensor:
    """The same without inversion, for edits that use no features of the canvas before."""
    pin = pair.pin()
    plan = second + joining(pair, second, editing, pin.known)
    z = picture_start(pin, start, pair.before.steps[0], 1.0)[None]
    sampler, steps = pair.before.sampler, pair.before.steps
    z = sample(plan, sampler, z, steps, noise=noise, watch=_watch("editing", 0, pair, callback), run=run)
    return torch.stack([pin.known, z[0]])


def _inverted(
    pair: Pair, editing: Editing, first: Plan, second: Plan, known: Tensor, callback: Progress, run: Run
) -> tuple[Inverted, Plan, Plan]:
    """The inverted noise of a given image, and both canvases' plans for sampling.

    Stored offsets restore the first canvas under any conditioning, so it needs no guidance. Fitted null embeddings
    condition both canvases.
    """
    plain = prepare(
        pair.parts.before.replace(guidance=1.0, method=pair.before.scene.method), pair.model, given=pair.picture
    )
    unguided = half_plan(pair, plain, BEFORE, editing)
    watch = _watch("inversion", 0, pair, callback)
    found = invert(unguided, known[None], pair.before.steps, "direct", watch=watch, run=run)
    if editing.inversion == "direct":
        return found, first if editing.policies else unguided, second

    def fitting(step: Step, error: float) -> None:
        callback(EditStep(doing="null text", step=step, x0=None, vae=pair.model.vae))

    fitted = fit_null(first, found.path, pair.before.steps, run=run, watch=fitting)
    nulls = {view.name: view.branches["null"] for view in fitted.views if isinstance(view.branches.get("null"), Fitted)}
    views = tuple(
        replace(view, branches={**view.branches, "null": nulls[view.name]}) if view.name in nulls else view
        for view in second.views
    )
    return replace(found, sampler=pair.before.sampler), fitted, replace(second, views=views)
