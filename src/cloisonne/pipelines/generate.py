"""Generate images from a scene: prepare, start, sample, finish."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import AttentionEdit, Plan, Refine
from cloisonne.core.run import Run
from cloisonne.core.sample import StepCallback, sample
from cloisonne.core.samplers import Sampler
from cloisonne.core.start import Start
from cloisonne.errors import SceneError
from cloisonne.models.finite import explained
from cloisonne.models.model import Model
from cloisonne.pipelines.attention_maps.maps import AttentionMaps
from cloisonne.pipelines.attention_maps.token_spans import Reading, mean_map, read_words
from cloisonne.pipelines.batch import batches, sample_batch
from cloisonne.pipelines.finish import Finisher
from cloisonne.pipelines.large.hires import generate_hires
from cloisonne.pipelines.output.report import report_of
from cloisonne.pipelines.progress import OnStep, Progress, Reporter
from cloisonne.pipelines.prompt_syntax import with_choices
from cloisonne.pipelines.result import Result, scene_of
from cloisonne.pipelines.starts import StartMaker, start_maker
from cloisonne.scene.scene import Scene

_NOT_CARRIED = "The run used {what}, which the image's scene does not record: the scene does not reproduce the image."
_ALL_READ = 'speed is "fast", but attention is read in all layers: every step is exact.'
_ONE_CHOICE = "All images of a run share the choice of each {a|b}, made by the first seed; generate each seed alone."


@dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """Keywords of :func:`generate` that are not fields of the scene; see :func:`cloisonne.generate`.

    solver: replaces the scene's sampler.
    """

    num_images: int = 1
    on_step: OnStep | None = None
    output_type: Literal["pil", "latent"] = "pil"
    latents: Tensor | None = None
    readers: Sequence[AttentionEdit] = ()
    refines: Sequence[Refine] = ()
    solver: Sampler[Any] | None = None
    attention: bool = False
    cache: str | PathLike[str] | None = None


def generate(scene: Scene, model: Model, *, seed: int | None = None, **options: Any) -> Result:
    """:func:`cloisonne.generate` for a scene and a loaded model. Each image is a pass of its own.

    seed: replaces the scene's. options: fields of :class:`Options`.
    """
    if scene.hires is not None:
        return generate_hires(scene, model, generate, seed=seed, **options)
    job = _prepared(scene if seed is None else scene.replace(seed=seed), model, Options(**options))
    return job.finish([_sampled(job.begin(index)) for index in range(job.options.num_images)])


def generate_many(scenes: Iterable[Scene], model: Model, **options: Any) -> list[Result]:
    """:func:`generate` for each scene, with the same options. Progress counts the images of all scenes.

    On a GPU, compatible scenes share their forward passes. On the CPU each image is a pass of its own.
    """
    asked, on_step = list(scenes), options.pop("on_step", None)
    callbacks = [_of_scene(on_step, place, len(asked)) for place in range(len(asked))]
    if model.device.type == "cpu" or any(scene.hires is not None for scene in asked):
        return [generate(scene, model, on_step=own, **options) for scene, own in zip(asked, callbacks, strict=True)]
    return generate_batched(asked, model, callbacks, **options)


def generate_batched(
    scenes: Sequence[Scene],
    model: Model,
    callbacks: Sequence[OnStep | None],
    *,
    seed: int | None = None,
    **options: Any,
) -> list[Result]:
    """:func:`generate` for each scene; compatible scenes share their forward passes. callbacks: one for each scene."""
    asked = scenes if seed is None else [scene.replace(seed=seed) for scene in scenes]
    jobs = [
        _prepared(scene, model, Options(on_step=own, **options)) for scene, own in zip(asked, callbacks, strict=True)
    ]
    ends: list[list[Tensor]] = [[] for _ in jobs]
    for group in batches([job.maker.prepared for job in jobs]):
        for index in range(jobs[group[0]].options.num_images):
            for place, end in zip(group, _sampled_together([jobs[place].begin(index) for place in group]), strict=True):
                ends[place].append(end)
    return [job.finish(own) for job, own in zip(jobs, ends, strict=True)]


def _of_scene(on_step: OnStep | None, place: int, num_scenes: int) -> OnStep | None:
    """A callback for one of several scenes, whose images follow those of the scenes before it."""
    if on_step is None:
        return None

    def counted(event: Progress) -> None:
        several = event.num_images
        on_step(replace(event, image=place * several + event.image, num_images=num_scenes * several))

    return counted


@dataclass(frozen=True, eq=False)
class _Image:
    """One image to sample. canvas: its index in the batch. on_step: gets all canvases. run: receives the counts."""

    job: "_Job"
    start: Start
    noise: Noise
    canvas: int
    on_step: StepCallback
    run: Run


def _sampled(image: _Image) -> Tensor:
    """Final latents [C, H, W]."""
    start, steps = image.start, image.job.maker.prepared.steps
    with explained(image.job.model):
        z = sample(
            start.plan, start.sampler, start.latents, steps, noise=image.noise, on_step=image.on_step, run=image.run
        )
    return z[image.canvas]


def _sampled_together(images: Sequence[_Image]) -> list[Tensor]:
    """Final latents [C, H, W] of images of compatible scenes."""
    first = images[0]
    with explained(first.job.model):
        found = sample_batch(
            [image.start.plan for image in images],
            first.start.sampler,
            [image.start.latents for image in images],
            first.job.maker.prepared.steps,
            noises=[image.noise for image in images],
            callbacks=[image.on_step for image in images],
            runs=[image.run for image in images],
        )
    return [z[image.canvas] for image, z in zip(images, found, strict=True)]


@dataclass(frozen=True, eq=False)
class _Job:
    """The images of one prepared scene.

    asked: the scene as given. reading: readers of attention, if maps are wanted. began: when preparation began.
    """

    asked: Scene
    model: Model
    options: Options
    maker: StartMaker
    reading: Reading | None
    began: float

    def begin(self, index: int) -> _Image:
        """Make the start of one image."""
        prepared, options = self.maker.prepared, self.options
        scene = scene_of(prepared.scene, index)
        assert scene.seed is not None, "a resolved scene has a seed"
        shape = (self.model.vae.channels, *prepared.grid)
        noise = Noise([Seed(scene.seed, prepared.compiled.seeds)], shape, self.model.device)
        readers = [] if self.reading is None else [one for own in self.reading.readers.values() for one in own]
        added = Plan(edits=(*options.readers, *readers), refines=tuple(options.refines))
        with explained(self.model):
            start = self.maker.start(noise, added, None if options.latents is None else options.latents[index])
        canvas = start.plan.streams.index(self.maker.stream)
        reporter = _reporter(self.model, options)
        return _Image(
            self, start, noise, canvas, replace(reporter, image=index).sampling(canvas), self.maker.run.part()
        )

    def finish(self, ends: Sequence[Tensor]) -> Result:
        """Decode the final latents [C, H, W] of all images and report the run."""
        prepared, decode = self.maker.prepared, self.options.output_type == "pil"
        finisher = Finisher(prepared=prepared, model=self.model)
        images = [finisher.image(z) for z in ends] if decode else []
        seeds = [scene_of(prepared.scene, index).seed for index in range(len(ends))]
        report = report_of(
            prepared.scene,
            self.model,
            self.maker.run,
            began=self.began,
            outputs=[{"path": None, "seed": seed, "sha256": None} for seed in seeds],
            dropped=prepared.compiled.dropped,
            warnings=[*prepared.compiled.warnings, *self.maker.warnings(), *self._warnings()],
            outside=finisher.outside(images),
        )
        raw = {} if finisher.raw is None else {"raw": finisher.raw}
        return Result(
            images=images,
            latents=torch.stack(list(ends)),
            scene=prepared.scene,
            model=self.model,
            report=report,
            run=self.maker.run,
            named={**self.maker.named(), **raw} if decode else {},
            difference_outside=finisher.difference_outside if finisher.has_outside else None,
            attention=None if self.reading is None else _maps(self.reading, prepared.scene, self.maker.run),
        )

    def _warnings(self) -> list[str]:
        """What the scene of the result does not record, and choices that several images share."""
        options = self.options
        given = {
            "given latents": options.latents is not None,
            "a sampler object": options.solver is not None,
            "given refines": bool(options.refines),
        }
        found = [_NOT_CARRIED.format(what=what) for what, is_given in given.items() if is_given]
        if self.maker.prepared.scene.speed != "exact" and (options.readers or self.reading is not None):
            found.append(_ALL_READ)
        several = options.num_images > 1 and with_choices(self.asked) != self.asked
        return [*found, _ONE_CHOICE] if several else found


def _prepared(scene: Scene, model: Model, options: Options) -> _Job:
    """Check the request and prepare the scene."""
    began = time.perf_counter()
    _check_options(scene, options)
    reading = read_words(scene, model) if options.attention else None
    cache = None if options.cache is None else Path(options.cache)
    maker = start_maker(scene, model, reporter=_reporter(model, options), cache=cache, solver=options.solver)
    scene_of(maker.prepared.scene, options.num_images - 1)  # refuses a seed that is too large
    shape = (options.num_images, model.vae.channels, *maker.prepared.grid)
    if options.latents is not None and options.latents.shape != shape:
        raise SceneError(f"latents have the shape {list(options.latents.shape)}; this scene takes {list(shape)}.")
    return _Job(scene, model, options, maker, reading, began)


def _reporter(model: Model, options: Options) -> Reporter:
    return Reporter(verb="generate", vae=model.vae, on_step=options.on_step, num_images=options.num_images)


def _check_options(scene: Scene, options: Options) -> None:
    if options.output_type not in ("pil", "latent"):
        raise SceneError(
            f'output_type is "{options.output_type}"; choose "pil" for images, or "latent" for latents alone.'
        )
    if options.latents is not None and scene.translated is not None:
        raise SceneError("latents were given, but a concept starts at the background's inverted noise; leave them out.")
    if options.num_images < 1:
        raise SceneError(f"num_images is {options.num_images}; give at least 1.")


def _maps(reading: Reading, scene: Scene, run: Run) -> AttentionMaps:
    """The mean map of each region that was read."""
    found = {name: mean_map(readers, run) for name, readers in reading.readers.items()}
    maps = {name: own for name, own in found.items() if own is not None}
    empty = {name: "has no words in any step" for name in reading.readers if name not in maps}
    return AttentionMaps(
        maps=maps,
        phrases={region.phrase: region.name or "" for region in reversed(scene.regions)},
        unread=dict(reading.unread) | empty,
        window=reading.window,
    )
