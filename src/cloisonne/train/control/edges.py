"""The loss on the edges of the x0 estimate (arXiv 2602.01991, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

_SOBEL = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
_LAPLACIAN = torch.ones(5, 5)
_LAPLACIAN[2, 2] = -24.0
_LAPLACIAN /= 48
EPSILON = 1e-6
"""Added under the square root, whose gradient at 0 is infinite."""


def sobel(x: Tensor) -> Tensor:
    """Gradient magnitude of each channel of [B, C, H, W]; normalised kernels, replicated borders."""
    channels = x.shape[1]
    kernels = torch.stack([_SOBEL, _SOBEL.T])[:, None].to(x).repeat(channels, 1, 1, 1)
    gradients = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernels, groups=channels)
    return (gradients.unflatten(1, (channels, 2)).square().sum(2) + EPSILON).sqrt()


def laplacian(x: Tensor) -> Tensor:
    """Laplacian of each channel of [B, C, H, W]; 5 x 5 kernel, reflected borders."""
    channels = x.shape[1]
    kernel = _LAPLACIAN.to(x).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, groups=channels)


def same(x: Tensor) -> Tensor:
    """The identity, for the plain loss."""
    return x


FILTERS = {"sobel": sobel, "laplacian": laplacian, "plain": same}


def x0_loss(kind: str, estimate: Tensor, z0: Tensor, mask: Tensor, *, by_area: bool) -> Tensor:
    """Per-sample loss [B]: ``mean((S(estimate) - S(z0))^2 * mask)`` over C, H and W.

    Args:
        kind: The filter S, a key of ``FILTERS``.
        estimate: x0 estimate [B, C, H, W].
        z0: Clean latents [B, C, H, W].
        mask: [B, 1, H, W] in 0..1.
        by_area: Divide by the mean of the mask, so that small and large masks weigh the same.
    """
    filtered = FILTERS[kind]
    error = ((filtered(estimate) - filtered(z0)).square() * mask).mean((1, 2, 3))
    return error / mask.mean((1, 2, 3)).clamp(min=1e-4) if by_area else error


def schedule(kind: str, t: Tensor, s: Tensor) -> Tensor:
    """Weight [B] of the loss at timesteps t [B] of 1000 with noise deviation s [B]."""
    match kind:
        case "step":
            return (t >= 500).to(s)
        case "time":
            return s.square()
        case _:
            return torch.ones_like(s)
