"""How a scene starts: a StartMaker prepares it once and makes the Start of each of its images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image
from torch import Tensor

from cloisonne.core.noise import Noise
from cloisonne.core.plan import Plan
from cloisonne.core.run import SCHEDULES, Run
from cloisonne.core.samplers import Sampler
from cloisonne.core.start import Start
from cloisonne.models.model import Model
from cloisonne.pipelines.inpaint import start
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.pipelines.progress import Reporter
from cloisonne.pipelines.translation.run import Translation
from cloisonne.scene.scene import Scene


@runtime_checkable
class StartMaker(Protocol):
    """A prepared scene that makes the Start of each of its images."""

    @property
    def prepared(self) -> Prepared:
        """The resolved and compiled scene."""
        ...

    @property
    def run(self) -> Run:
        """Forwards and batch rows so far."""
        ...

    @property
    def stream(self) -> str:
        """Name of the canvas that becomes the image."""
        ...

    def start(self, noise: Noise, added: Plan, latents: Tensor | None = None) -> Start:
        """The start of one image.

        noise: of its seed; the same object then serves the sampler. added: edits and refines of the caller. latents:
        unit noise [C, H, W] in place of the first of ``noise``.
        """
        ...

    def plan(self) -> Plan:
        """The plan of sampling, without what needs a network to compute, for ``explain``."""
        ...

    def setup_rows(self) -> list[int]:
        """Batch rows of every forward before sampling, at most."""
        ...

    def warnings(self) -> list[str]:
        """What is not honoured, besides the warnings of the compilation."""
        ...

    def named(self) -> dict[str, Image.Image]:
        """Given images of the scene by their names in ``Result.named``."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseStart:
    """Starts at noise (text-to-image), or at the noised latents of the background (image-to-image, inpainting)."""

    prepared: Prepared
    run: Run = field(default_factory=Run)
    stream: str = "image"

    def start(self, noise: Noise, added: Plan, latents: Tensor | None = None) -> Start:
        prepared, pin = self.prepared, self.prepared.pin
        # Taken in any case, so that given latents do not shift the noise of stochastic samplers.
        z = noise()[0]
        z = z if latents is None else latents.to(z)
        plan = prepared.compiled.plan + added
        if pin is not None:
            plan += Plan(refines=(pin,))
            z = start(pin, z, prepared.steps[0], prepared.scene.strength) if prepared.steps else pin.known
        return Start(z[None], prepared.sampler, plan)

    def plan(self) -> Plan:
        return self.prepared.compiled.plan

    def setup_rows(self) -> list[int]:
        return [1] * self.prepared.probes

    def warnings(self) -> list[str]:
        return []

    def named(self) -> dict[str, Image.Image]:
        edit = self.prepared.edit
        return {} if edit is None else {"source": edit.unchanged()}


def start_maker(
    scene: Scene,
    model: Model,
    *,
    reporter: Reporter | None = None,
    cache: Path | None = None,
    blank: bool = False,
    solver: Sampler[Any] | None = None,
) -> StartMaker:
    """Prepare a scene for sampling: by inversion and a concept where it has one, else from noise.

    reporter, cache: of learning a concept. blank: use zeros for encoded inputs and run no network, for ``explain``.
    solver: replaces the scene's sampler. Raises SceneError, ImageError, CapabilityError or CheckpointError.
    """
    if scene.translated is not None:
        reporter = reporter or Reporter(verb="generate", vae=model.vae)
        return Translation.of(scene, model, reporter=reporter, cache=cache, blank=blank, solver=solver)
    prepared = prepare(scene, model, blank=blank, solver=solver)
    run = Run(forwards=prepared.probes, rows=prepared.probes, reuse=SCHEDULES[prepared.scene.speed])
    return NoiseStart(prepared=prepared, run=run)
