"""Progress of a run: the event that ``on_step`` receives after each step of every function."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from cloisonne.core.sample import StepCallback
from cloisonne.core.step import Step
from cloisonne.models.vae import Vae
from cloisonne.pipelines.inpaint import as_pixels

Verb = Literal["generate", "inpaint", "edit", "translate", "sweep"]
"""The function that runs; each scene of ``generate_many`` is a "generate"."""

Stage = Literal["sampling", "inversion", "pivot", "null text", "learning"]
"""What the steps belong to: denoising; inverting a given image; fitting embeddings to the inverted path (of the source,
or of the empty text); learning a concept."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Progress:
    """One finished step of a run. The tensors are the run's own: do not change them.

    Attributes:
        verb: The function that runs.
        stage: What the step belongs to.
        step: Finished steps of the stage, from 1 to ``total``.
        total: Steps of the stage. Learning may end earlier.
        image: Index of the image, from 0; over all values of a sweep, over all scenes of ``generate_many``.
        num_images: Number of these images.
        loss: Loss of the step, where something is learned or fitted.
        latents: Noisy latents [C, H, W] at the end of the step; None where something is learned or fitted.
        x0: Estimate [C, H, W] of the clean latents; None where something is learned or fitted.
    """

    verb: Verb
    stage: Stage
    step: int
    total: int
    image: int = 0
    num_images: int = 1
    loss: float | None = None
    latents: Tensor | None = None
    x0: Tensor | None = None
    _vae: Vae | None = None

    def __repr__(self) -> str:
        several = f", image {self.image + 1} of {self.num_images}" if self.num_images > 1 else ""
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        return f"Progress of {self.verb}: {self.stage} {self.step} of {self.total}{several}{loss}"

    def preview(self) -> Image.Image | None:
        """A cheap preview of ``x0``, by a linear map of the latents; None where there is no estimate."""
        if self.x0 is None or self._vae is None:
            return None
        small = Image.fromarray(as_pixels(self._vae.preview(self.x0[None])[0]))
        size = (small.width * self._vae.factor, small.height * self._vae.factor)
        return small.resize(size, Image.Resampling.BICUBIC)


OnStep = Callable[[Progress], None]
"""May raise :class:`~cloisonne.errors.Cancelled`: nothing is written, and the model stays usable."""


def bar_counts(event: Progress) -> tuple[int, int]:
    """Finished and all steps of an event's stage; sampling counts the steps of all images together."""
    if event.stage != "sampling":
        return event.step, event.total
    return event.image * event.total + event.step, event.num_images * event.total


def relabelled(on_step: OnStep | None, **changes: Any) -> OnStep | None:
    """The callback, with fields of each event changed, such as its verb; None for None."""
    return None if on_step is None else lambda event: on_step(replace(event, **changes))


@dataclass(frozen=True, kw_only=True, eq=False)
class Reporter:
    """Sends the events of one image's run to ``on_step``, if there is one."""

    verb: Verb
    vae: Vae
    on_step: OnStep | None = None
    image: int = 0
    num_images: int = 1

    def __call__(
        self,
        stage: Stage,
        step: int,
        total: int,
        *,
        loss: float | None = None,
        latents: Tensor | None = None,
        x0: Tensor | None = None,
    ) -> None:
        """Report a finished step."""
        if self.on_step is not None:
            event = Progress(
                verb=self.verb,
                stage=stage,
                step=step,
                total=total,
                image=self.image,
                num_images=self.num_images,
                loss=loss,
                latents=latents,
                x0=x0,
                _vae=self.vae,
            )
            self.on_step(event)

    def sampling(self, index: int = 0, *, before: int = 0, after: int = 0) -> StepCallback:
        """A callback of the loop that reports the canvas at an index of the batch.

        before, after: sampling steps of other loops of the same image, ahead of this one and following it.
        """
        return lambda step, z, x0: self(
            "sampling", before + step.index + 1, before + step.count + after, latents=z[index], x0=x0[index]
        )

    def inversion(self, index: int = 0) -> StepCallback:
        """The same of inversion, which takes the steps from the last to the first."""
        return lambda step, z, x0: self(
            "inversion", step.count - step.index, step.count, latents=z[index], x0=x0[index]
        )

    def fitting(self, stage: Stage) -> Callable[[Step, float], None]:
        """A callback for embeddings that are fitted step by step."""
        return lambda step, loss: self(stage, step.index + 1, step.count, loss=loss)
