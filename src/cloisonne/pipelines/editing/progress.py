"""Progress of an edit: the value its callback receives after each step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image
from torch import Tensor

from cloisonne.core.step import Step
from cloisonne.models.vae import Vae
from cloisonne.pipelines.inpaint import as_pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class EditStep:
    """One step of an edit.

    doing: "inversion" of a given image, fitting of the "null text", or "editing": sampling of the pair. step: index,
    count and noise levels. x0: estimate [C, H, W] of the clean canvas after, or during inversion of the given one; None
    while null embeddings are fitted. Do not change it.
    """

    doing: Literal["inversion", "null text", "editing"]
    step: Step
    x0: Tensor | None
    vae: Vae

    @property
    def done(self) -> int:
        """Finished steps of this stage, of ``step.count``."""
        return self.step.count - self.step.index if self.doing == "inversion" else self.step.index + 1

    def preview(self) -> Image.Image | None:
        """A cheap preview of the estimate, by a linear map of the latents; None where there is no estimate."""
        if self.x0 is None:
            return None
        small = Image.fromarray(as_pixels(self.vae.preview(self.x0[None])[0]))
        return small.resize((small.width * self.vae.factor, small.height * self.vae.factor), Image.Resampling.BICUBIC)


Progress = Callable[[EditStep], None]
"""May raise :class:`~cloisonne.errors.Cancelled`: nothing is written, and the model stays usable."""
