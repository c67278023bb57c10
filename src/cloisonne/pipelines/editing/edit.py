"""Edit several regions at once and keep the rest: a pair of pictures, both drawn, or a given one and what it becomes.

Two canvases walk in one pass, each told its own half of the scene; what they have to do with one another says a way of
editing (``methods/mrgd/method.py``). A given picture is walked up to its noise first, by stored offsets.
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
from cloisonne.methods.region_options import refuse_unheard
from cloisonne.models.finite import explained
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.losses import things
from cloisonne.pipelines.editing.pair import Pair
from cloisonne.pipelines.editing.plan import compares, half_plan, joining
from cloisonne.pipelines.editing.progress import EditStep, Progress
from cloisonne.pipelines.editing.result import Edited
from cloisonne.pipelines.editing.settings import editing_of
from cloisonne.pipelines.inpaint import ROOM
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
    """Draw a scene with edits as two pictures; with a background, that picture is the first one.

    preset: a way of editing, one of ``scene.edit_presets.PRESETS``; the scene's own if left out, or "mrgd", or "follow"
    where the model has nothing that finds words. changes: fields of it that shall be other, as in the scene's
    ``editing``, such as ``looks``, the share of the walk, in [0, 1], in which things that stay what they are keep how
    they looked at themselves. callback_on_step_end: called after each step, on the way up and down; it may raise
    :class:`~cloisonne.errors.Cancelled`. Raises SceneError, ImageError or CapabilityError where that is refused.
    """
    began = time.perf_counter()
    given = {**({} if preset else dict(scene.editing)), **changes}
    named = preset or str(given.pop("preset", "follow" if model.segmenter is None else "mrgd"))
    editing = editing_of(named, given)
    understood = understand(scene if seed is None else scene.replace(seed=seed), model)
    asked = understood.scene
    room = editing.room_for([region.edit.kind for region in asked.active_regions if region.edit is not None])
    halves(asked)  # refuses what the regions that stay cannot have, too
    near = _near(asked) if room and asked.background is not None else asked
    pair = Pair.of(near, model, "multidiffusion" if editing.regions else None, room or ROOM)
    run = Run()
    with explained(model):
        z = _walk(pair, editing, callback_on_step_end, run)
    before, after, raw = pair.pictures(z, things(pair) if editing.tight else None)
    difference = pair.difference_outside(before, after)
    told = {name: value for name, value in vars(editing).items() if value != getattr(PRESETS[named], name)}
    resolved = pair.scene.replace(regions=asked.regions, editing={"preset": named, **told})
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


def _near(scene: Scene) -> Scene:
    """The scene without the regions that stay: from near, what is edited alone is told."""
    return scene.replace(regions=tuple(region for region in scene.regions if region.edit is not None))


def _walk(pair: Pair, editing: Editing, told: Progress, run: Run) -> Tensor:
    """[2, C, H, W]: the canvases before and after."""
    device = pair.model.device
    assert pair.before.scene.seed is not None, "a resolved scene has a seed"
    shape = (pair.model.vae.channels, *pair.grid)
    noise = Noise([Seed(pair.before.scene.seed, pair.seeds())], shape, device)
    start = noise()[0]
    second = half_plan(pair, pair.after, AFTER, editing)
    if pair.picture is not None and editing.follow and not compares(pair, editing):
        refuse_unheard(pair.scene.active_regions)
        return _repainted(pair, second, editing, start, noise, told, run)
    first = half_plan(pair, pair.before, BEFORE, editing)
    starts, known, solver = {BEFORE: start, AFTER: start}, None, pair.before.sampler
    if pair.picture is not None:
        known = pair.pin().known
        found, first, second = _inverted(pair, editing, first, second, known, told, run)
        starts = {BEFORE: found.noise[0], AFTER: pair.renoised(found.noise[0], start, editing.fresh)}
        solver = found.sampler
    both = first + second
    both += joining(pair, both, editing, known)
    place = {name: both.streams.index(name) for name in (BEFORE, AFTER)}
    if isinstance(solver, Retrace):
        solver = replace(solver, solver=pair.before.sampler, places=(place[BEFORE],))
    down = Run()
    z = both.stack(starts)
    z = sample(
        both, solver, z, pair.before.steps, noise=noise, watch=_watch("editing", place[AFTER], pair, told), run=down
    )
    run.forwards += down.forwards
    run.rows += down.rows
    return z[[place[BEFORE], place[AFTER]]]


def _watch(doing: Literal["inversion", "editing"], place: int, pair: Pair, told: Progress) -> Watch:
    """Tells of the canvas in a place among those that walk."""
    return lambda step, z, x0: told(EditStep(doing=doing, step=step, x0=x0[place], vae=pair.model.vae))


def _repainted(
    pair: Pair, second: Plan, editing: Editing, start: Tensor, noise: Noise, told: Progress, run: Run
) -> Tensor:
    """The same where nothing asks what the given picture looks like inside: it need not be walked up and down."""
    pin = pair.pin()
    plan = second + joining(pair, second, editing, pin.known)
    z = picture_start(pin, start, pair.before.steps[0], 1.0)[None]
    sampler, steps = pair.before.sampler, pair.before.steps
    z = sample(plan, sampler, z, steps, noise=noise, watch=_watch("editing", 0, pair, told), run=run)
    return torch.stack([pin.known, z[0]])


def _inverted(
    pair: Pair, editing: Editing, first: Plan, second: Plan, known: Tensor, told: Progress, run: Run
) -> tuple[Inverted, Plan, Plan]:
    """A given picture's noise, and what the canvases are told on the way down.

    Stored offsets put the first canvas back whatever it is told, so it goes unguided; fitted null texts are told both.
    """
    plain = prepare(
        pair.parts.before.replace(guidance=1.0, method=pair.before.scene.method), pair.model, given=pair.picture
    )
    unguided = half_plan(pair, plain, BEFORE, editing)
    watch = _watch("inversion", 0, pair, told)
    found = invert(unguided, known[None], pair.before.steps, "direct", watch=watch, run=run)
    if editing.inversion == "direct":
        return found, first if editing.policies else unguided, second

    def fitting(step: Step, error: float) -> None:
        told(EditStep(doing="null text", step=step, x0=None, vae=pair.model.vae))

    fitted = fit_null(first, found.path, pair.before.steps, run=run, watch=fitting)
    nulls = {view.name: view.branches["null"] for view in fitted.views if isinstance(view.branches.get("null"), Fitted)}
    views = tuple(
        replace(view, branches={**view.branches, "null": nulls[view.name]}) if view.name in nulls else view
        for view in second.views
    )
    return replace(found, sampler=pair.before.sampler), fitted, replace(second, views=views)
