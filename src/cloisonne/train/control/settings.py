"""Settings of training for localized control."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from cloisonne.train.engine import settings

KINDS = ("canny", "sobel", "color")
"""The keys of ``scene.control_maps.DRAWN``; repeated because settings must not import it."""
MASKS = ("bbox", "alternate", "fixed", "none")
MASKED = ("features", "map")
EDGES = ("sobel", "laplacian", "plain", "none")
SCHEDULES = ("constant", "step", "time")
WEIGHTINGS = ("network", "epsilon", "min_snr")
TIMESTEPS = ("cubic", "uniform")


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """Control map, masks, and the loss on the x0 estimate."""

    counts = ("num_res_blocks",)
    shares = ("proportion_empty_prompts",)
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kind": KINDS,
        "mask": MASKS,
        "masked": MASKED,
        "x0_loss": EDGES,
        "x0_schedule": SCHEDULES,
        "loss_weighting": WEIGHTINGS,
        "timesteps": TIMESTEPS,
    }

    adapter: Annotated[str | None, "Folder or .safetensors file of a T2I-Adapter to start from."] = None
    kind: Annotated[str, f"Kind of control map, computed from each training image: one of {', '.join(KINDS)}."] = (
        "canny"
    )
    mask: Annotated[str, f"Mask inside which the map applies: one of {', '.join(MASKS)}; none is the whole image."] = (
        "bbox"
    )
    masked: Annotated[str, f"What is multiplied by the mask: one of {', '.join(MASKED)}."] = "features"
    x0_loss: Annotated[str, f"Filter of the latents in the x0 loss inside the mask: one of {', '.join(EDGES)}."] = (
        "sobel"
    )
    x0_weight: Annotated[float, "Weight of the x0 loss relative to the denoising loss; the paper uses 1e-3."] = 1.0
    x0_schedule: Annotated[
        str, "Weight over timesteps: constant, step (only t >= 500) or time (1 - cumulative alpha)."
    ] = "constant"
    normalize_by_area: Annotated[bool, "Divide the x0 loss by the area fraction of the mask."] = False
    loss_weighting: Annotated[
        str,
        "Weight of the denoising loss: network (the error of the network's prediction), epsilon (that of the noise) or "
        "min_snr (gamma 5).",
    ] = "network"
    timesteps: Annotated[str, "Distribution of t: cubic (favours noisy timesteps) or uniform."] = "cubic"
    proportion_empty_prompts: Annotated[float, "Fraction of the images with an empty prompt."] = 0.5
    num_res_blocks: Annotated[int, "Residual blocks per level of a new adapter."] = 2

    def _checks(self) -> Iterator[tuple[str, Any, bool, str]]:
        yield from super()._checks()
        yield "x0_weight", self.x0_weight, not 0 <= self.x0_weight < math.inf, "give a number of at least 0"
