"""The context that an inpainting network gets as input while the rest of the canvas is still being generated.

Ours. Such a network (Paint by Example's, an inpainting one) was trained on finished images with a hole. Where
other networks share the canvas there is no finished picture, but there is their estimate of it at no cost: they run
first, and their x0 is the inpainting network's input around the hole at every step.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class InpaintContext:
    """The further input channels of such a network, as far as they are known before sampling.

    known: [C, H, W], latents of what is certain, with grey in the hole. unsure: [H, W] in [0, 1], where the others'
    estimate stands in its place. keep: [H, W], the channel that is 1 where the image is preserved, 0 in the hole.
    """

    known: Float[Tensor, "C H W"]
    unsure: Float[Tensor, "H W"]
    keep: Float[Tensor, "H W"]

    def channels(self, estimate: Float[Tensor, "C H W"]) -> Float[Tensor, "K H W"]:
        """[C + 1, H, W], with the estimate [C, H, W] of the clean canvas by the views that were asked before."""
        return torch.cat([torch.lerp(self.known, estimate, self.unsure), self.keep[None]])
