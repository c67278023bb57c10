"""Latents of training images, the forward diffusion and the training target, for every kind of training."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.models.model import Model
from cloisonne.models.vae import Vae

MIN_SNR = 5.0
"""gamma of min-SNR weighting."""


class Diffusion:
    """The frozen VAE and noise schedule of the base, on the training device.

    Latents are sampled from the VAE's posterior: ``z0 = (mean + deviation * n - shift) * scale``.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        self._vae = model.vae
        self._prediction = model.schedule.prediction
        trained = model.schedule.trained()
        self._alphas = torch.tensor([step.alpha for step in reversed(trained)], device=device)
        self._ss = torch.tensor([step.s for step in reversed(trained)], device=device)
        self._vae.module.to(device)

    def latents(self, pixels: Tensor, noise: Tensor, autocast: Any) -> Tensor:
        """Encode pixels [B, 3, h, w] in -1..1 to latents [B, C, H, W]. autocast: the context the VAE runs in."""
        with autocast:
            return sampled_latents(self._vae, pixels, noise)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and s, each [B, 1, 1, 1], at timesteps t [B]: ``z = alpha * z0 + s * noise``."""
        return self._alphas[t][:, None, None, None], self._ss[t][:, None, None, None]

    def noised(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Add noise to z0 at timesteps t [B]."""
        alpha, s = self.levels(t)
        return alpha * z0 + s * noise

    def target(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The training target: the noise, v = alpha * noise - s * z0, or z0."""
        alpha, s = self.levels(t)
        match self._prediction:
            case "epsilon":
                return noise
            case "v_prediction":
                return alpha * noise - s * z0
            case _:
                return z0

    def weight(self, kind: str, t: Tensor) -> Tensor:
        """Weight [B, 1, 1, 1] of the squared error of the network's output at timesteps t [B].

        kind: "network" is 1; "epsilon" makes it the error of the noise; "min_snr" that of z0 times the ratio of signal
        to noise, at most ``MIN_SNR`` (arXiv 2303.09556, section 3.4).
        """
        alpha, s = self.levels(t)
        if kind == "network":
            return torch.ones_like(s)
        snr = (alpha / s).square()
        of_clean = {"epsilon": 1 / snr, "v_prediction": s.square()}.get(self._prediction, torch.ones_like(s))
        return of_clean * (snr if kind == "epsilon" else snr.clamp(max=MIN_SNR))

    def clean(self, output: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """The z0 estimate of the network output for z at timesteps t [B]."""
        alpha, s = self.levels(t)
        match self._prediction:
            case "epsilon":
                return (z - s * output) / alpha
            case "v_prediction":
                return alpha * z - s * output
            case _:
                return output


@torch.no_grad()
def sampled_latents(vae: Vae, pixels: Tensor, noise: Tensor) -> Tensor:
    """Sample latents float32 [B, C, H, W] of about unit variance from the VAE posterior, with ``noise``."""
    config: Any = vae.module.config
    patch = vae.factor // 2 ** (len(config["block_out_channels"]) - 1)
    posterior = vae.module.encode(F.pixel_unshuffle(pixels, patch), return_dict=False)[0]
    return vae.scaled(posterior.mean.float() + posterior.std.float() * noise)
