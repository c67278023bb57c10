"""Prepare a run: resolve a scene against a model and compile it.

Only encoders run, and the denoiser once where ``region_boost`` is "auto".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from cloisonne.core.plan import Box, Plan, Step
from cloisonne.core.refines import Pin
from cloisonne.core.samplers import DISTILLED, SPREADS, Sampler, check_sampler, sampler
from cloisonne.core.schedule import Schedule
from cloisonne.errors import CapabilityError, SceneError, spelled
from cloisonne.methods import METHODS
from cloisonne.methods.compile import Compiled, compile
from cloisonne.methods.context import Context
from cloisonne.methods.control import conditional
from cloisonne.methods.encoder import Encoder, encode_together
from cloisonne.methods.kinds import given_kinds
from cloisonne.methods.layout import Placed, box_of, place
from cloisonne.models.denoiser import ReusesFeatures
from cloisonne.models.model import Model
from cloisonne.models.sizes import size_warning
from cloisonne.pipelines.attention_maps.layout_guidance import guided_layout
from cloisonne.pipelines.attention_maps.phrase_boost import PROBE, boost_for, boosts, phrase_odds
from cloisonne.pipelines.colour_warnings import colour_warnings
from cloisonne.pipelines.control_warnings import control_warnings
from cloisonne.pipelines.inpaint import BackgroundEdit, unknown
from cloisonne.pipelines.large.windows import compile_windows, windows_of
from cloisonne.pipelines.mask_warnings import mask_warnings
from cloisonne.pipelines.output.report import dropped_warnings
from cloisonne.pipelines.outside import OutsideImage
from cloisonne.pipelines.prompt_syntax import understand
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Frame
from cloisonne.scene.shapes.masks import Mask


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Prepared:
    """A resolved and compiled scene.

    edit: the background's edit; None without a background. grid: latent size (H, W). placed: the active regions on that
    grid. ctx: the context of the compilation. outside: the scene's ``outside`` image; None without one. probes: number
    of forward passes, of one row each, that chose the boost.
    """

    scene: Scene
    placed: tuple[Placed, ...]
    ctx: Context
    compiled: Compiled
    edit: BackgroundEdit | None
    outside: OutsideImage | None
    grid: tuple[int, int]
    sampler: Sampler[Any]
    steps: tuple[Step, ...]
    probes: int = 0

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of the regions that do not fit the model's text."""
        return self.compiled.dropped

    @property
    def warnings(self) -> tuple[str, ...]:
        """Parts of the scene that are not honoured, one sentence each."""
        return (*self.compiled.warnings, *dropped_warnings(self.dropped))

    @cached_property
    def covered(self) -> Mask:
        """[H, W] of the background in [0, 1]: how much each pixel is repainted."""
        assert self.edit is not None, "the scene has a background"
        return self.edit.covered(self.dropped)

    @cached_property
    def pin(self) -> Pin | None:
        """The refinement that preserves the background's latents outside of the regions; None without a background."""
        return None if self.edit is None else self.edit.pin(self.ctx.model, size_of(self.scene), self.covered)

    @property
    def plan(self) -> Plan:
        """The plan of every step, the background's ``pin`` included."""
        return self.compiled.plan if self.pin is None else self.compiled.plan + Plan(refines=(self.pin,))

    def __repr__(self) -> str:
        width, height = size_of(self.scene)
        views = len(self.compiled.plan.views)
        return f"Prepared scene of {width} x {height} pixels: {views} views, {len(self.steps)} steps, {self.sampler}"


def prepare(
    scene: Scene,
    model: Model,
    *,
    blank: bool = False,
    given: BackgroundEdit | None = None,
    solver: Sampler[Any] | None = None,
    strength: float | None = None,
) -> Prepared:
    """Check the scene against the model and compile it.

    blank: use zeros for encoded texts and images and run no network, for ``explain``. given: replaces the edit of the
    scene's own background and regions. solver: replaces the scene's sampler. strength: the fraction of the steps that
    run, where it is not the scene's own. Raises SceneError, ImageError or CapabilityError where it cannot be generated.
    """
    _check_one_image(scene)
    if not blank and model.device.type != "cpu":
        encode_together(scene, model, lambda: prepare(scene, model, blank=True, given=given, strength=strength))
    understood = understand(scene, model)
    side = min(model.native.width, model.native.height)
    edit = given or (None if scene.background is None else BackgroundEdit.of(understood.scene, side))
    resolved = _resolved(understood.scene, model, edit)
    grid = _grid(resolved, model)
    size = size_of(resolved)
    outside = OutsideImage.of(resolved, (edit.source.width, edit.source.height) if edit else size)
    share = resolved.strength if strength is None else strength
    solver_of_scene, steps = _sampling(resolved, model, solver, grid, share)

    def context(frame: Frame, own: tuple[int, int], part: Scene) -> Context:
        return Context(
            scene=part,
            model=model,
            grid=own,
            num_steps=len(steps),
            frame=frame,
            encoder=Encoder(
                texts=model.text,
                masked_image=lambda: edit.known(model, frame.canvas) if edit else unknown(model, frame.canvas),
                no_image=lambda: (torch.zeros(model.vae.channels, *own), torch.zeros(frame.canvas[::-1])),
                blank=blank,
            ),
        )

    ctx = context(edit.frame(size) if edit else Frame.whole(size), grid, resolved)
    placed = edit.placed(resolved, grid) if edit else _placed(resolved, grid)
    if (chooses := resolved.region_boost == "auto") and not blank:
        resolved = resolved.replace(region_boost=_boost(ctx, placed, steps))
        ctx = replace(ctx, scene=resolved)
    compiled = _compiled(resolved, placed, ctx, context, edit)
    return Prepared(
        scene=resolved,
        placed=tuple(placed),
        ctx=ctx,
        compiled=replace(compiled, warnings=(*model.warnings, *understood.warnings, *compiled.warnings)),
        edit=edit,
        outside=outside,
        grid=grid,
        sampler=solver_of_scene,
        steps=steps,
        probes=int(chooses and boosts(compiled.plan)),
    )


def _compiled(
    resolved: Scene,
    placed: Sequence[Placed],
    ctx: Context,
    context: Callable[[Frame, tuple[int, int], Scene], Context],
    edit: BackgroundEdit | None,
) -> Compiled:
    """The plan of a resolved scene, of its windows where it has any, and all warnings about it.

    context: makes the context of a window, as of :func:`compile_windows`.
    """
    assert resolved.method, "a resolved scene has a method"
    method, boxes = METHODS[resolved.method], _windows(resolved, ctx.model, ctx.grid)
    if len(boxes) > 1:
        compiled = compile_windows(method, boxes, context, resolved)
    else:
        compiled = compile(method, placed, ctx)
    compiled = guided_layout(compiled, resolved, ctx.model)
    found = (*_warnings(resolved, ctx.model, edit), *_speed_warnings(resolved, ctx.model, compiled))
    return replace(compiled, warnings=(*compiled.warnings, *found))


def _boost(ctx: Context, placed: Sequence[Placed], steps: Sequence[Step]) -> float | None:
    """The boost that the model's attention asks for; None where no phrase of the scene is boosted."""
    assert ctx.scene.method, "a resolved scene has a method"
    probed = replace(ctx, scene=ctx.scene.replace(region_boost=PROBE))
    odds = phrase_odds(compile(METHODS[ctx.scene.method], placed, probed).plan, steps, ctx.model)
    return boost_for(odds) if len(odds) else None


def _check_one_image(scene: Scene) -> None:
    """Raise SceneError where a condition makes two images."""
    for region in scene.active_regions:
        for kind in given_kinds(region, scene):
            if kind.two_images:
                use = spelled(f"{kind.name}(...)", f"cloisonne {kind.name}")
                raise SceneError(f"The region's {kind.name} makes two images; use {use}.", region=region.name)


def _resolved(scene: Scene, model: Model, edit: BackgroundEdit | None) -> Scene:
    """The scene with the model's values for the fields that it leaves out."""
    native = model.native
    width, height = edit.canvas(model) if edit else (native.width, native.height)
    resolved = scene.resolved(
        width=width,
        height=height,
        steps=native.steps,
        guidance=native.guidance,
        sampler=native.sampler,
        method=native.method,
    )
    if native.conditional_controls:
        resolved = resolved.replace(regions=[conditional(region) for region in resolved.regions])
    return resolved if Path(resolved.model).name == model.name else resolved.replace(model=model.name)


def _warnings(scene: Scene, model: Model, edit: BackgroundEdit | None) -> tuple[str, ...]:
    """Warnings about the masks, control maps, colours and size of a resolved scene."""
    size = size_of(scene)
    beyond = None if scene.windows is not None else size_warning(*size, model)
    of_size = edit.warnings(size) if edit else filter(None, [beyond])
    return (*mask_warnings(scene, edit, size), *control_warnings(scene, edit), *colour_warnings(scene), *of_size)


def _windows(scene: Scene, model: Model, grid: tuple[int, int]) -> list[Box]:
    """The windows that predict the canvas; one of all of it for a scene without ``windows``."""
    if scene.windows is None:
        return [Box(0, 0, *grid)]
    factor = model.vae.factor
    return windows_of(grid, (model.native.height // factor, model.native.width // factor), scene.windows)


def _speed_warnings(scene: Scene, model: Model, compiled: Compiled) -> tuple[str, ...]:
    """Why nothing is reused, where the speed is "fast"."""
    if scene.speed == "exact":
        return ()
    if not (isinstance(model.net, ReusesFeatures) and model.net.reuses_features):
        return (f'speed is "fast", but the network of "{model.name}" reuses nothing: every step is exact.',)
    if compiled.plan.edits:
        return ('speed is "fast", but edits and concepts read all layers at every step: every step is exact.',)
    return ()


def size_of(scene: Scene) -> tuple[int, int]:
    """Width and height in pixels of a resolved scene."""
    width, height = scene.width, scene.height
    assert width, "a resolved scene has a width"
    assert height, "a resolved scene has a height"
    return width, height


def _grid(scene: Scene, model: Model) -> tuple[int, int]:
    factor = model.vae.factor
    multiple = factor * model.spec.patch
    width, height = size_of(scene)
    if width % multiple or height % multiple:
        nearest = [max(round(side / multiple), 1) * multiple for side in (width, height)]
        raise CapabilityError(
            f'The canvas is {width} x {height} pixels, but "{model.name}" needs multiples of {multiple}; '
            f"give {nearest[0]} x {nearest[1]}."
        )
    return height // factor, width // factor


def _placed(scene: Scene, grid: tuple[int, int]) -> list[Placed]:
    width, height = size_of(scene)
    masks = [(region, region.soft_mask(height, width)) for region in scene.active_regions]
    return [place(region, mask, box_of(region, mask), grid) for region, mask in masks]


def _sampling(
    scene: Scene, model: Model, solver: Sampler[Any] | None, grid: tuple[int, int], strength: float
) -> tuple[Sampler[Any], tuple[Step, ...]]:
    assert scene.sampler, "a resolved scene has a sampler"
    assert scene.steps, "a resolved scene has steps"
    schedule = model.schedule
    levels = schedule if isinstance(schedule, Schedule) else None
    solver_of_scene = sampler(scene.sampler, scene.eta, levels) if solver is None else check_sampler(solver)
    spacing = model.native.spacing if scene.spacing == "default" else scene.spacing
    if spacing == "default" and solver is None and scene.sampler in DISTILLED:
        spacing = "distilled"
    if spacing != "default":
        schedule = schedule.spaced(spacing, SPREADS[scene.sampler])
    tokens = grid[0] * grid[1] // model.spec.patch**2
    steps = schedule.steps(scene.steps, ends_clean=solver_of_scene.ends_clean, strength=strength, num_tokens=tokens)
    return solver_of_scene, steps
