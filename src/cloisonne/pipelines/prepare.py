"""Prepare a run: resolve a scene against a model and compile it. Only encoders run, never the denoiser."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cloisonne.core.plan import Conditioning, Plan, Step
from cloisonne.core.refines import Pin
from cloisonne.core.samplers import SPREADS, Sampler, check_sampler, sampler
from cloisonne.errors import CapabilityError, SceneError, spelled
from cloisonne.methods import METHODS
from cloisonne.methods.compile import Compiled, compile
from cloisonne.methods.context import Context
from cloisonne.methods.layout import Placed, box_of, place
from cloisonne.models.model import Model
from cloisonne.models.sizes import size_warning
from cloisonne.pipelines.colour_warnings import colour_warnings
from cloisonne.pipelines.control_maps import control_features, control_warnings
from cloisonne.pipelines.inpaint import BackgroundEdit, unknown
from cloisonne.pipelines.mask_warnings import mask_warnings
from cloisonne.pipelines.output.report import dropped_warnings
from cloisonne.pipelines.outside import OutsideImage
from cloisonne.pipelines.prompt_syntax import understand
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.masks import Mask


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Prepared:
    """A resolved and compiled scene.

    edit: the background's edit; None without a background. grid: latent size (H, W). placed: the active regions on that
    grid. ctx: the context of the compilation. outside: the scene's ``outside`` image; None without one.
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
) -> Prepared:
    """Check the scene against the model and compile it.

    blank: use zeros for encoded texts and images and run no network, for ``explain``. given: replaces the edit of the
    scene's own background and regions. solver: replaces the scene's sampler. Raises SceneError, ImageError or
    CapabilityError where the scene cannot be generated.
    """
    _check_edits(scene)
    understood = understand(scene, model)
    side = min(model.native.width, model.native.height)
    edit = given or (None if scene.background is None else BackgroundEdit.of(understood.scene, side))
    resolved = _resolved(understood.scene, model, edit)
    grid = _grid(resolved, model)
    outside = OutsideImage.of(resolved, (edit.source.width, edit.source.height) if edit else size_of(resolved))
    hole = _hole(resolved, model, edit, blank=blank)
    solver_of_scene, steps = _sampling(resolved, model, solver, grid)
    ctx = Context(
        scene=resolved,
        model=model,
        grid=grid,
        num_steps=len(steps),
        blank=blank,
        shared=_shared(resolved, model, hole),
        hole=hole,
        encode_image=_image_encoder(model, blank=blank),
        encode_control=lambda region: control_features(region, model, edit, size_of(resolved), blank=blank),
    )
    placed = edit.placed(resolved, grid) if edit else _placed(resolved, grid)
    assert resolved.method, "a resolved scene has a method"
    compiled = compile(METHODS[resolved.method], placed, ctx)
    found = _warnings(resolved, model, edit)
    warnings = (*model.warnings, *understood.warnings, *compiled.warnings, *found)
    return Prepared(
        scene=resolved,
        placed=tuple(placed),
        ctx=ctx,
        compiled=replace(compiled, warnings=warnings),
        edit=edit,
        outside=outside,
        grid=grid,
        sampler=solver_of_scene,
        steps=steps,
    )


def _check_edits(scene: Scene) -> None:
    """Raise SceneError where a region has an edit, which makes two images."""
    for region in scene.active_regions:
        if region.edit is not None:
            raise SceneError(
                f"The region has an edit, which makes two images; use {spelled('edit(...)', 'cloisonne edit')}.",
                region=region.name,
            )


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
    return resolved if Path(resolved.model).name == model.name else resolved.replace(model=model.name)


def _warnings(scene: Scene, model: Model, edit: BackgroundEdit | None) -> tuple[str, ...]:
    """Warnings about the masks, control maps, colours and size of a resolved scene."""
    size = size_of(scene)
    of_size = edit.warnings(size) if edit else filter(None, [size_warning(*size, model)])
    return (*mask_warnings(scene, edit, size), *control_warnings(scene, edit), *colour_warnings(scene), *of_size)


def size_of(scene: Scene) -> tuple[int, int]:
    """Width and height in pixels of a resolved scene."""
    width, height = scene.width, scene.height
    assert width, "a resolved scene has a width"
    assert height, "a resolved scene has a height"
    return width, height


def _hole(scene: Scene, model: Model, edit: BackgroundEdit | None, *, blank: bool) -> tuple[Tensor, Tensor]:
    """Masked-image latents and mask for inpainting and exemplar networks; zeros where no network takes them."""
    width, height = size_of(scene)
    painted = model.exemplar is not None and any(region.exemplar is not None for region in scene.active_regions)
    asked = model.spec.inpaints or painted
    if blank or not asked:
        grid = (height // model.vae.factor, width // model.vae.factor)
        return torch.zeros(model.vae.channels, *grid), torch.zeros(height, width)
    return edit.hole(model, (width, height)) if edit else unknown(model, (width, height))


def _shared(scene: Scene, model: Model, hole: tuple[Tensor, Tensor]) -> Conditioning:
    """Conditioning of every batch row: the canvas size and the guidance where the network takes them, and inpainting
    channels."""
    width, height = size_of(scene)
    size = (height, width, 0.0, 0.0, height, width)
    assert scene.guidance is not None, "a resolved scene has guidance"
    micro = {"size": size, "guidance": (scene.guidance,)}
    micro = {name: value for name, value in micro.items() if name in model.spec.micro}
    if not model.spec.inpaints or model.image_only:
        return Conditioning(micro=micro)
    known, keep = hole
    # In the network's order (arXiv 2112.10752, section 4.5): 1 where any pixel may change, then what is known.
    free = F.adaptive_max_pool2d(1 - keep[None], known.shape[-2:])
    return Conditioning(channels=torch.cat([free.to(known), known]), micro=micro)


def _image_encoder(model: Model, *, blank: bool) -> Callable[[Image.Image | None], Tensor]:
    """The encoder of exemplar images: the exemplar model's, or else the IP-Adapter's; None gives the null image."""
    painter, adapter = model.exemplar, model.ip_adapter

    def tokens(picture: Image.Image | None) -> Tensor:
        if blank or (painter is None and adapter is None):
            return torch.zeros(1 if adapter is None else adapter.num_tokens, model.spec.token_width)
        if painter is not None:
            return painter.null if picture is None else painter.token(picture)
        assert adapter is not None, "one of the two is there"
        return adapter.null if picture is None else adapter.tokens(picture)

    return tokens


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
    scene: Scene, model: Model, solver: Sampler[Any] | None, grid: tuple[int, int]
) -> tuple[Sampler[Any], tuple[Step, ...]]:
    assert scene.sampler, "a resolved scene has a sampler"
    assert scene.steps, "a resolved scene has steps"
    solver_of_scene = sampler(scene.sampler, scene.eta) if solver is None else check_sampler(solver)
    schedule = model.schedule
    if scene.spacing != "default":
        schedule = schedule.spaced(scene.spacing, SPREADS[scene.sampler])
    tokens = grid[0] * grid[1] // model.spec.patch**2
    steps = schedule.steps(
        scene.steps, ends_clean=solver_of_scene.ends_clean, strength=scene.strength, num_tokens=tokens
    )
    return solver_of_scene, steps
