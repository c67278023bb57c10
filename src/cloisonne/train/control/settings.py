"""The settings of localized control's training beside those of every training."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from cloisonne.train.engine import settings

KINDS = ("canny", "sobel", "color")
"""Those of ``scene.maps.DRAWN``, named here because settings are read before anything heavy is."""
MASKS = ("bbox", "alternate", "fixed", "none")
MASKED = ("features", "map")
EDGES = ("sobel", "laplacian", "plain", "none")
SCHEDULES = ("constant", "step", "time")
TIMESTEPS = ("cubic", "uniform")


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """The map, the masks, and the loss on the clean latent."""

    counts = ("num_res_blocks",)
    shares = ("proportion_empty_prompts",)
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kind": KINDS,
        "mask": MASKS,
        "masked": MASKED,
        "x0_loss": EDGES,
        "x0_schedule": SCHEDULES,
        "timesteps": TIMESTEPS,
    }

    adapter: Annotated[str | None, "Folder or .safetensors file of a T2I-Adapter to begin with."] = None
    kind: Annotated[str, f"Of the map, drawn of each training picture: one of {', '.join(KINDS)}."] = "canny"
    mask: Annotated[str, f"Where the map is to be obeyed: one of {', '.join(MASKS)}; none is everywhere."] = "bbox"
    masked: Annotated[str, f"What the mask is multiplied with: one of {', '.join(MASKED)}."] = "features"
    x0_loss: Annotated[str, f"What of the clean latents is compared inside: one of {', '.join(EDGES)}."] = "sobel"
    x0_weight: Annotated[float, "Of that loss, against the error of the noise."] = 1e-3
    x0_schedule: Annotated[
        str, "constant; step (only for t from 500 on); time (times one minus the cumulative alpha)."
    ] = "constant"
    normalize_by_area: Annotated[bool, "Divide that loss by the mask's share of the picture."] = False
    timesteps: Annotated[str, "cubic (the noisy ones more often) or uniform."] = "cubic"
    proportion_empty_prompts: Annotated[float, "Share of the pictures told without words."] = 0.5
    num_res_blocks: Annotated[int, "Blocks a level of a new adapter."] = 2

    def _faults(self) -> Iterator[tuple[str, Any, bool, str]]:
        yield from super()._faults()
        yield "x0_weight", self.x0_weight, not 0 <= self.x0_weight < math.inf, "give a number from 0 on"
