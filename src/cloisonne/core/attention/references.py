"""Reference images as further image tokens of joint attention."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Reference:
    """One reference image of one branch.

    latents: [C, h, w], of a size of its own. mask: [H, W] >= 0 on the canvas, how often its tokens count at an image
    token; None where it conditions the whole canvas as the network was trained: all tokens attend to it, and it to all.
    region: the name of the region it is about, if any.
    """

    latents: Float[Tensor, "C h w"]
    mask: Float[Tensor, "H W"] | None = None
    region: str | None = None

    def __repr__(self) -> str:
        place = "everywhere" if self.mask is None else f"on {float((self.mask > 0).float().mean()):.0%}"
        return f"a reference of {self.latents.shape[-2]} x {self.latents.shape[-1]} latent pixels {place}"
