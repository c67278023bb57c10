"""Large images in two passes: generate at the scene's size, enlarge, and repaint with the same regions (``hires``).

The second pass adds what the size of the first one cannot show. A network repeats objects on a canvas larger than those
of its training, because its deep layers see a smaller part of an object there. So these are dilated by the scale
(ScaleCrafter, arXiv 2310.07702), and the estimates keep what the first pass shows (ILVR, arXiv 2108.02938; DemoFusion,
2311.16973, keeps it by its skip residuals).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan
from cloisonne.core.refines import Coarse
from cloisonne.core.run import SCHEDULES, Run
from cloisonne.core.sample import sample
from cloisonne.errors import SceneError
from cloisonne.models.denoiser import Denoiser, Enlarges
from cloisonne.models.finite import explained
from cloisonne.models.model import Model
from cloisonne.models.sizes import size_warning
from cloisonne.pipelines.finish import Finisher
from cloisonne.pipelines.inpaint import as_tensor, resized
from cloisonne.pipelines.output.report import report_of
from cloisonne.pipelines.prepare import Prepared, prepare, size_of
from cloisonne.pipelines.progress import OnStep, Progress, Reporter
from cloisonne.pipelines.result import Result, scene_of
from cloisonne.scene.scene import Scene


@dataclass(frozen=True, eq=False)
class Repaint:
    """The second pass of a scene with ``hires``, prepared once for all images. grid: (H, W) of the first pass."""

    prepared: Prepared
    model: Model
    grid: tuple[int, int]

    @classmethod
    def of(cls, scene: Scene, model: Model, *, blank: bool = False) -> "Repaint":
        """scene: with ``hires``, resolved. blank: as for ``prepare``. Raises what ``prepare`` does."""
        assert scene.hires is not None, "the scene has a second pass"
        multiple = model.vae.factor * model.spec.patch
        width, height = (max(round(side * scene.hires.scale / multiple), 1) * multiple for side in size_of(scene))
        large = scene.replace(hires=None, width=width, height=height)
        prepared = prepare(
            large, _enlarged(model, large, scene.hires.scale), blank=blank, strength=scene.hires.strength
        )
        # The first pass makes the layout, at a size that the model was trained on.
        known = {size_warning(width, height, model)}
        warnings = tuple(text for text in prepared.compiled.warnings if text not in known)
        first = (size_of(scene)[1] // model.vae.factor, size_of(scene)[0] // model.vae.factor)
        return cls(replace(prepared, compiled=replace(prepared.compiled, warnings=warnings)), model, first)

    def __call__(self, image: Image.Image, seed: int, run: Run, reporter: Reporter, before: int) -> Tensor:
        """Final latents [C, H, W]. image: of the first pass. before: the steps of the first pass."""
        prepared, model = self.prepared, self.model
        pixels = as_tensor(resized(np.asarray(image.convert("RGB")), size_of(prepared.scene)))
        known = model.vae.encode(pixels.to(model.device))[0]
        if not prepared.steps:
            return known
        shape = (model.vae.channels, *prepared.grid)
        noise = Noise([Seed(seed, prepared.compiled.seeds)], shape, model.device)
        first = prepared.steps[0]
        z = first.alpha * known[None] + first.s * noise()
        with explained(model):
            return sample(
                prepared.plan + Plan(refines=(Coarse(known=known, grid=self.grid),)),
                prepared.sampler,
                z,
                prepared.steps,
                noise=noise,
                run=run,
                on_step=reporter.sampling(before=before),
            )[0]


def _enlarged(model: Model, large: Scene, scale: float) -> Model:
    """The model for the larger canvas of a scene, whose objects are ``scale`` times as large as in the first pass.

    Windows have the size of the training, and so may the canvas.
    """
    if large.windows is not None:
        return model
    sides = zip(size_of(large), (model.native.width, model.native.height), strict=True)
    scale = min(scale, *(side / native for side, native in sides))
    net = _net(model.net, scale)
    if model.exemplar is None:
        return replace(model, net=net)
    own = net if model.exemplar.net is model.net else _net(model.exemplar.net, scale)
    return replace(model, net=net, exemplar=replace(model.exemplar, net=own))


def _net(net: Denoiser, scale: float) -> Denoiser:
    return net.enlarged(scale) if isinstance(net, Enlarges) else net


NO_PLACE = ("latents", "readers", "refines", "attention")
"""Options of ``generate`` that belong to one size."""


def generate_hires(
    scene: Scene, model: Model, generate: Callable[..., Result], *, seed: int | None = None, **options: Any
) -> Result:
    """:func:`~cloisonne.pipelines.generate.generate` for a scene with ``hires``.

    Images and latents are those of the second pass; ``named["small"]`` is the image of the first.
    generate: of a scene without ``hires``.
    """
    began, count, output = time.perf_counter(), options.pop("num_images", 1), options.pop("output_type", "pil")
    unused: tuple[Any, ...] = (None, False, ())
    if taken := [name for name in NO_PLACE if not any(options.get(name) is value for value in unused)]:
        raise SceneError(f"hires runs in two sizes and takes no {taken[0]}; leave one of them out.")
    on_step = options.pop("on_step", None)
    asked = scene.replace(hires=None) if seed is None else scene.replace(hires=None, seed=seed)
    first = prepare(asked, model, solver=options.get("solver"))
    repaint, run = Repaint.of(first.scene.replace(hires=scene.hires), model), Run(reuse=SCHEDULES[scene.speed])
    before, after = len(first.steps), len(repaint.prepared.steps)
    smalls, ends = list[Result](), list[Tensor]()
    for index in range(count):
        reporter = Reporter(verb="generate", vae=model.vae, on_step=on_step, image=index, num_images=count)
        own = None if on_step is None else _counted(on_step, reporter, after)
        small = generate(scene_of(first.scene, index), model, on_step=own, **options)
        ends.append(repaint(small.image, small.scene.seed or 0, run, reporter, before))
        run.add(small.run)
        smalls.append(small)
    finisher = Finisher(prepared=repaint.prepared, model=model)
    final = first.scene.replace(hires=scene.hires)
    report = report_of(
        final,
        model,
        run,
        began=began,
        outputs=[{"path": None, "seed": small.scene.seed, "sha256": None} for small in smalls],
        dropped=repaint.prepared.compiled.dropped,
        warnings=[*smalls[0].report["warnings"], *repaint.prepared.compiled.warnings],
        outside=dict.fromkeys(("identical_outside", "max_difference_outside", "max_difference_outside_raw")),
    )
    return Result(
        images=[finisher.image(z) for z in ends] if output == "pil" else [],
        latents=torch.stack(ends),
        scene=final,
        model=model,
        report=report,
        run=run,
        named={"small": smalls[0].image} if output == "pil" else {},
    )


def _counted(on_step: OnStep, reporter: Reporter, after: int) -> OnStep:
    """A callback of the first pass of one of several images. after: the steps of the second pass."""

    def counted(event: Progress) -> None:
        on_step(replace(event, image=reporter.image, num_images=reporter.num_images, total=event.total + after))

    return counted
