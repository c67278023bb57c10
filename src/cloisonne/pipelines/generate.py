"""Generate images from a scene, and inpaint a given image where a mask is white."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import AttentionEdit, Plan, Refine, Step
from cloisonne.core.refines import Pin
from cloisonne.core.run import Run
from cloisonne.core.sample import StepCallback, no_callback, sample
from cloisonne.core.samplers import Sampler
from cloisonne.errors import SceneError
from cloisonne.models.finite import explained
from cloisonne.models.model import Model
from cloisonne.models.vae import Vae
from cloisonne.pipelines.inpaint import as_pixels, start
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.pipelines.prompt_syntax import with_choices
from cloisonne.pipelines.result import REPORT_VERSION, Result, scene_of
from cloisonne.pipelines.translation.run import Translation
from cloisonne.pipelines.translation.settings import Progress, no_progress
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.mask_reading import Channel

_NOT_CARRIED = "The run used {what}, which the image's scene does not record: the scene does not reproduce the image."
_ONE_CHOICE = "All images of a run share the choice of each {a|b}, made by the first seed; generate each seed alone."


@dataclass(frozen=True, kw_only=True, eq=False)
class StepEnd:
    """What ``callback_on_step_end`` receives after each step.

    image: index of the image, below ``num_images``. step: index, count and noise levels. latents, x0: [C, H, W], the
    latents at the step's end and the last estimate of the clean ones; do not change them.
    """

    image: int
    num_images: int
    step: Step
    latents: Tensor
    x0: Tensor
    vae: Vae

    def preview(self) -> Image.Image:
        """A cheap preview of the estimate, by a linear map of the latents."""
        pixels = as_pixels(self.vae.preview(self.x0[None])[0])
        height, width = pixels.shape[:2]
        size = (width * self.vae.factor, height * self.vae.factor)
        return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


Callback = Callable[[StepEnd], None]
"""May raise :class:`~cloisonne.errors.Cancelled`: nothing is written, and the model stays usable."""


def generate(
    scene: Scene,
    model: Model,
    *,
    seed: int | None = None,
    num_images: int = 1,
    callback_on_step_end: Callback | None = None,
    output_type: Literal["pil", "latent"] = "pil",
    latents: Tensor | None = None,
    readers: Sequence[AttentionEdit] = (),
    refines: Sequence[Refine] = (),
    solver: Sampler[Any] | None = None,
    progress: Progress = no_progress,
    cache: Path | None = None,
) -> Result:
    """Generate images of a scene, or repaint its background: the regions, or the whole image without regions.

    Each image is a pass of its own, so ``num_images`` changes none of them.

    Args:
        scene: The scene.
        model: The model.
        seed: Replaces the scene's seed; image i has seed + i.
        num_images: Number of images.
        callback_on_step_end: Called after each step.
        output_type: "pil", or "latent" to decode no images.
        latents: Unit noise [num_images, C, H, W] that replaces the seeds' noise.
        readers: Attention edits that only read, such as ``TokenMaps``; ``Result.run`` has what they read of all images.
        refines: Applied to each estimate, before the background is restored.
        solver: Replaces the scene's sampler.
        progress: For a scene with a concept: receives the stage, the step reached, the number of steps, and the loss
            while fitting; may raise Cancelled.
        cache: A folder for checkpoints of learning a concept, which are resumed or reused.

    Raises:
        SceneError, ImageError, CapabilityError, CheckpointError: The scene cannot be generated.
    """
    began = time.perf_counter()
    _check_asked(scene, num_images, output_type, latents)
    asked = scene if seed is None else scene.replace(seed=seed)
    translation = None
    if asked.translated is not None:
        translation = Translation.of(asked, model, progress=progress, cache=cache, solver=solver)
    prepared = prepare(asked, model, solver=solver) if translation is None else translation.prepared
    scenes = [scene_of(prepared.scene, index) for index in range(num_images)]
    _check_latents(latents, (num_images, model.vae.channels, *prepared.grid))
    painter = _Painter(prepared, model, Plan(edits=tuple(readers), refines=tuple(refines)), translation)
    run = Run() if translation is None else translation.run
    ends, images = [], []
    for index, one in enumerate(scenes):
        on_step = no_callback
        if callback_on_step_end is not None:
            on_step = _report(callback_on_step_end, index, num_images, model.vae)
        noise = None if latents is None else latents[index]
        ends.append(painter.sample(one, noise, on_step, run))
        images += [painter.picture(ends[-1])] if output_type == "pil" else []
    warnings = list(translation.warnings()) if translation else []
    carried = {"given latents": latents is None, "a sampler object": solver is None, "given refines": not refines}
    warnings += [_NOT_CARRIED.format(what=what) for what, is_carried in carried.items() if not is_carried]
    warnings += [_ONE_CHOICE] if num_images > 1 and with_choices(asked) != asked else []
    report = {
        "version": REPORT_VERSION,
        "outputs": [{"path": None, "seed": one.seed, "sha256": None} for one in scenes],
        "scene": prepared.scene.to_dict(complete=True),
        "model": dict(model.record()),
        "sampler_of_checkpoint": model.scheduler,
        "seconds": round(time.perf_counter() - began, 3),
        "forwards": run.forwards,
        "rows": run.rows,
        "dropped": list(prepared.compiled.dropped),
        "warnings": [*prepared.compiled.warnings, *warnings],
        **painter.outside_report(images),
    }
    return Result(
        images=images,
        latents=torch.stack(ends),
        scene=prepared.scene,
        model=model,
        report=report,
        difference_outside=painter.difference_outside if painter.has_outside else None,
        run=run,
    )


def generate_many(scenes: Iterable[Scene], model: Model, **options: Any) -> list[Result]:
    """Generate several scenes, each as :func:`generate` alone does; options: as for ``generate``."""
    return [generate(scene, model, **options) for scene in scenes]


def fill(
    source: Any,
    mask: Any,
    phrase: str,
    model: Model,
    *,
    feather: float = 0.0,
    mask_channel: Channel = "auto",
    **options: Any,
) -> Result:
    """Inpaint an image by a phrase where a mask is white: :func:`generate` for a scene of one region.

    source, mask: a path, a PIL image or an array. feather: the region's soft edge. mask_channel: channel to read,
    ``auto``, ``luminance``, ``alpha`` or ``transparency``. options: those of ``generate`` (seed, num_images,
    callback_on_step_end), and fields of the scene, such as caption, negative, strength (at 1 nothing under the mask is
    retained), steps, guidance, sampler and method.
    """
    region = filled(mask, phrase, feather=feather, mask_channel=mask_channel)
    return _repainted(source, region, model, options)


def paint(
    source: Any,
    mask: Any,
    exemplar: Any,
    model: Model,
    *,
    similarity: float | None = None,
    phrase: str = "",
    feather: float = 0.0,
    mask_channel: Channel = "auto",
    **options: Any,
) -> Result:
    """Inpaint an image by an exemplar image where a mask is white: :func:`generate` for a scene of one region.

    Paint by Example, arXiv 2211.13227. source, mask, exemplar: a path, a PIL image or an array. similarity: similarity
    to the exemplar, from 1 (same category) to 5 and above; None means 5, or with an IP-Adapter the guidance scale.
    phrase: text for the same region, where the model takes text. feather, mask_channel, options: as for :func:`fill`;
    ``composite=False`` returns the raw decode.
    """
    given: dict[str, Any] = {"similarity": similarity, "phrase": phrase, "mask_channel": mask_channel}
    region = painted(mask, exemplar, feather=feather, **given)
    return _repainted(source, region, model, options)


def filled(mask: Any, phrase: str, **options: Any) -> Region:
    """The region of :func:`fill`. options: feather and mask_channel."""
    return Region(name="fill", mask=mask, phrase=phrase, **options)


def painted(mask: Any, exemplar: Any, **options: Any) -> Region:
    """The region of :func:`paint`. options: similarity, phrase, feather and mask_channel."""
    return Region(name="paint", mask=mask, exemplar=exemplar, **options)


def _repainted(source: Any, region: Region, model: Model, options: dict[str, Any]) -> Result:
    run = {name: options.pop(name) for name in ("seed", "num_images", "callback_on_step_end") if name in options}
    return generate(Scene(background=source, regions=(region,), **options), model, **run)


class _Painter:
    """Samples the images of one prepared scene and decodes them."""

    def __init__(self, prepared: Prepared, model: Model, added: Plan, translation: Translation | None) -> None:
        self._prepared = prepared
        self._model = model
        self._translation = translation
        self._added = added
        self._edit = prepared.edit
        self._plan = prepared.compiled.plan + added
        self._covered = np.zeros((0, 0), np.float32) if prepared.edit is None else prepared.covered
        self._pin: Pin | None = None
        self.raw_differences: list[int] = []
        if translation is None and prepared.pin is not None:
            self._pin = prepared.pin
            self._plan += Plan(refines=(self._pin,))

    @property
    def has_outside(self) -> bool:
        """Whether there are pixels that must not change."""
        return self._edit is not None and bool(self._edit.masks)

    def sample(self, scene: Scene, latents: Tensor | None, on_step: StepCallback, run: Run) -> Tensor:
        """Denoise the latents [C, H, W] of one scene, from noise or from the noised background."""
        assert scene.seed is not None, "a resolved scene has a seed"
        if self._translation is not None:
            with explained(self._model):
                return self._translation.sample(scene.seed, on_step, self._added)
        steps, shape = self._prepared.steps, (self._model.vae.channels, *self._prepared.grid)
        noise = Noise([Seed(scene.seed, self._prepared.compiled.seeds)], shape, self._model.device)
        # Taken in any case, so that given latents do not shift the noise of stochastic samplers.
        z = noise()[0]
        z = z if latents is None else latents.to(z)
        if self._pin is not None:
            z = start(self._pin, z, steps[0], scene.strength) if steps else self._pin.known
        with explained(self._model):
            sampler, own = self._prepared.sampler, run.part()
            return sample(self._plan, sampler, z[None], steps, noise=noise, on_step=on_step, run=own)[0]

    def picture(self, z: Tensor) -> Image.Image:
        """Decode latents; composite them into the background and the scene's ``outside`` image, if there are any."""
        kept = self._prepared.kept
        return self._drawn(z) if kept is None else kept.pasted(self._drawn(z))

    def _drawn(self, z: Tensor) -> Image.Image:
        if self._edit is not None and not self._prepared.steps:
            return self._edit.unchanged()
        pixels = as_pixels(self._model.vae.decode(z[None])[0])
        if self._edit is None:
            return Image.fromarray(pixels)
        raw = self._edit.whole(pixels)
        if self.has_outside:
            self.raw_differences.append(self.difference_outside(raw))
        return self._edit.pasted(pixels, self._covered) if self._prepared.scene.composite else raw

    def outside_report(self, images: Sequence[Image.Image]) -> dict[str, bool | int | None]:
        """The report's entries about pixels that must not change."""
        differences = [self.difference_outside(image) for image in images] if self.has_outside else []
        return {
            "identical_outside": max(differences) == 0 if differences else None,
            "max_difference_outside": max(differences, default=None),
            "max_difference_outside_raw": max(self.raw_differences, default=None),
        }

    def difference_outside(self, image: Image.Image) -> int:
        """Largest difference of a result from the background outside of the regions, in 0 to 255."""
        assert self._edit is not None, "only an edit has an outside"
        return self._edit.difference_outside(image, self._covered)


def _report(callback: Callback, image: int, num_images: int, vae: Vae) -> StepCallback:
    def report(step: Step, z: Tensor, x0: Tensor) -> None:
        callback(StepEnd(image=image, num_images=num_images, step=step, latents=z[0], x0=x0[0], vae=vae))

    return report


def _check_asked(scene: Scene, num_images: int, output_type: str, latents: Tensor | None) -> None:
    if output_type not in ("pil", "latent"):
        raise SceneError(f'output_type is "{output_type}"; choose "pil" for images, or "latent" for latents alone.')
    if latents is not None and scene.translated is not None:
        raise SceneError("latents were given, but a concept starts at the background's inverted noise; leave them out.")
    if num_images < 1:
        raise SceneError(f"num_images is {num_images}; give at least 1.")


def _check_latents(latents: Tensor | None, shape: tuple[int, ...]) -> None:
    if latents is not None and latents.shape != shape:
        raise SceneError(f"latents have the shape {list(latents.shape)}; this scene takes {list(shape)}.")
