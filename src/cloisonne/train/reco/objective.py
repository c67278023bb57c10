"""The loss: the squared error of the noise, or of v, at a level drawn uniformly (arXiv 2211.15518, section 3.2)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloisonne.models.model import Model
from cloisonne.models.vae import Vae
from cloisonne.train.reco.examples import Batch


class Objective:
    """Latents of a batch's pictures, noised, and how far a student's output is from what it should be.

    The frozen vae's posterior is drawn from, not its mean taken: ``z0 = (mean + deviation * n - shift) * scale``.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        self._vae = model.vae
        self._prediction = model.schedule.prediction
        self._alphas = torch.tensor(model.schedule.alphas, device=device)
        self._ss = torch.tensor(model.schedule.ss, device=device)
        self._vae.module.to(device)

    def __call__(self, student: nn.Module, batch: Batch, autocast: Any) -> Tensor:
        """The mean squared error, a number. autocast: the context in which the vae works."""
        with autocast:
            z0 = drawn_latents(self._vae, batch["pixels"], batch["posterior"])
        noise, t = batch["noise"], batch["t"]
        alpha, s = (levels[t][:, None, None, None] for levels in (self._alphas, self._ss))
        output = student(batch["ids"], alpha * z0 + s * noise, t)
        return F.mse_loss(output.float(), self._target(z0, noise, alpha, s))

    def _target(self, z0: Tensor, noise: Tensor, alpha: Tensor, s: Tensor) -> Tensor:
        match self._prediction:
            case "epsilon":
                return noise
            case "v_prediction":
                return alpha * noise - s * z0
            case _:
                return z0


@torch.no_grad()
def drawn_latents(vae: Vae, pixels: Tensor, noise: Tensor) -> Tensor:
    """Latents float32 [B, C, H, W] of about unit variance, drawn with ``noise`` from the posterior of the pictures."""
    config: Any = vae.module.config
    patch = vae.factor // 2 ** (len(config["block_out_channels"]) - 1)
    posterior = vae.module.encode(F.pixel_unshuffle(pixels, patch), return_dict=False)[0]
    return (posterior.mean.float() + posterior.std.float() * noise - vae.shift) * vae.scale
