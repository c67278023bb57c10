"""Where sampling starts: the latents, the sampler and the plan of one run."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cloisonne.core.plan import Plan
from cloisonne.core.samplers import Sampler


@dataclass(frozen=True, eq=False)
class Start:
    """Everything that :func:`~cloisonne.core.sample.sample` needs but the steps and the noise.

    latents: [S, C, H, W] in the order of ``plan.streams``, at the noise level of the first step, or as the sampler
    takes them. sampler: the solver of every step. plan: what conditions, guides and refines the estimates.

    Text-to-image starts at noise, image-to-image at noised latents of the given image, an edit and a translation at the
    inverted noise of theirs, or at the image itself where FlowEdit is the sampler.
    """

    latents: Tensor
    sampler: Sampler[Any]
    plan: Plan
