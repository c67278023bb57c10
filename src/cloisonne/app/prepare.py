"""From a scene and a model to all that a run needs; no network but the text encoder is asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cloisonne.app.picture_edit import PictureEdit
from cloisonne.core.plan import Step
from cloisonne.core.samplers import Sampler, sampler
from cloisonne.errors import CapabilityError
from cloisonne.methods import METHODS
from cloisonne.methods.base import Compiled, Context, Placed, box_of, compile, place
from cloisonne.models.model import Model
from cloisonne.scene.scene import Scene


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A scene, resolved and compiled. edit: None unless the scene has a background. grid: (H, W) of latents."""

    scene: Scene
    compiled: Compiled
    edit: PictureEdit | None
    grid: tuple[int, int]
    sampler: Sampler[Any]
    steps: tuple[Step, ...]


def prepare(scene: Scene, model: Model, encode: Callable[[Sequence[int]], Tensor] | None = None) -> Prepared:
    """Check the scene against the model and compile it.

    encode: how ids [N] become tokens [N, D]; None asks the model's text encoder. Raises SceneError, ImageError or
    CapabilityError where the scene cannot be drawn.
    """
    edit = None if scene.background is None else PictureEdit.of(scene)
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
    if Path(resolved.model).name != model.name:
        resolved = resolved.replace(model=model.name)
    grid = _grid(resolved, model)
    ctx = Context(resolved, model, grid, encode or model.text.encode)
    placed = edit.placed(resolved, grid) if edit else _placed(resolved, grid)
    walker, steps = _walk(resolved, model)
    assert resolved.method, "a resolved scene has a method"
    return Prepared(
        scene=resolved,
        compiled=compile(METHODS[resolved.method], placed, ctx),
        edit=edit,
        grid=grid,
        sampler=walker,
        steps=steps,
    )


def size_of(scene: Scene) -> tuple[int, int]:
    """Width and height in pixels of a resolved scene."""
    width, height = scene.width, scene.height
    assert width, "a resolved scene has a width"
    assert height, "a resolved scene has a height"
    return width, height


def _grid(scene: Scene, model: Model) -> tuple[int, int]:
    factor = model.vae.factor
    width, height = size_of(scene)
    if width % factor or height % factor:
        nearest = [max(round(side / factor), 1) * factor for side in (width, height)]
        raise CapabilityError(
            f'The canvas is {width} x {height} pixels, but "{model.name}" draws in multiples of {factor}; '
            f"give {nearest[0]} x {nearest[1]}."
        )
    return height // factor, width // factor


def _placed(scene: Scene, grid: tuple[int, int]) -> list[Placed]:
    width, height = size_of(scene)
    masks = [(region, region.soft_mask(height, width)) for region in scene.active_regions]
    return [place(region, mask, box_of(region, mask), grid) for region, mask in masks]


def _walk(scene: Scene, model: Model) -> tuple[Sampler[Any], tuple[Step, ...]]:
    assert scene.sampler, "a resolved scene has a sampler"
    assert scene.steps, "a resolved scene has steps"
    walker = sampler(scene.sampler, scene.eta)
    schedule = model.schedule if scene.spacing == "default" else replace(model.schedule, spacing=scene.spacing)
    return walker, schedule.steps(scene.steps, ends_clean=walker.ends_clean, strength=scene.strength)
