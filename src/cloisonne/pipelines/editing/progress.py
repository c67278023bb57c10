"""What a long edit tells on its way."""

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
    """doing: a given picture is walked up ("inversion"), null texts are fitted, or the pair is drawn ("editing").

    step: index, count and noise levels. x0: [C, H, W], the estimate of the clean canvas after, or on the way up of the
    given one; None while texts are fitted. Not to be changed.
    """

    doing: Literal["inversion", "null text", "editing"]
    step: Step
    x0: Tensor | None
    vae: Vae

    @property
    def done(self) -> int:
        """Steps of this kind that are done, of ``step.count``."""
        return self.step.count - self.step.index if self.doing == "inversion" else self.step.index + 1

    def preview(self) -> Image.Image | None:
        """The estimate as a small soft picture, by a linear map of the latents; None where there is none."""
        if self.x0 is None:
            return None
        small = Image.fromarray(as_pixels(self.vae.preview(self.x0[None])[0]))
        return small.resize((small.width * self.vae.factor, small.height * self.vae.factor), Image.Resampling.BICUBIC)


Progress = Callable[[EditStep], None]
"""May raise :class:`~cloisonne.errors.Cancelled`: nothing has been written, and the model stays usable."""
