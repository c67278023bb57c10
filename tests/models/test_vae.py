from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.vae import Vae


def test_latents_are_the_scaled_mean_of_the_unshuffled_image(tiny: Model) -> None:
    pixels = torch.rand(2, 3, 64, 32) * 2 - 1
    module = tiny.vae.module
    mean = module.encode(F.pixel_unshuffle(pixels, 4)).latent_dist.mean
    latents = tiny.vae.encode(pixels)
    assert tiny.vae.factor == 8
    assert latents.shape == (2, 4, 8, 4)
    torch.testing.assert_close(latents, (mean - 0.1) * 0.5)
    torch.testing.assert_close(tiny.vae.decode(latents), F.pixel_shuffle(module.decode(mean).sample, 4))


def test_plain_images_need_no_unshuffling(tiny_sd: Path) -> None:
    vae = load(tiny_sd).vae
    pixels = torch.rand(1, 3, 32, 64) * 2 - 1
    assert vae.factor == 8
    torch.testing.assert_close(vae.encode(pixels), vae.module.encode(pixels).latent_dist.mean * 0.5)


def test_channels_that_are_no_image_are_refused() -> None:
    module = AutoencoderKL(in_channels=4, out_channels=4, block_out_channels=(4,), norm_num_groups=4)
    with pytest.raises(CheckpointError, match="takes 4 channels"):
        Vae(module)


class LinearAutoencoder:
    """Mean colours of 8 x 8 pixels, mixed: what a linear preview can undo exactly."""

    def __init__(self) -> None:
        self.config = {"in_channels": 3, "latent_channels": 4, "block_out_channels": (1,) * 4, "scaling_factor": 2.0}
        self.dtype, self.device = torch.float32, torch.device("cpu")
        self.mix = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.5], [0.5, 0.0, 1.0], [1.0, 1.0, 1.0]])

    def encode(self, pixels: Tensor, return_dict: bool) -> tuple[SimpleNamespace]:
        return (SimpleNamespace(mean=torch.einsum("oc,bchw->bohw", self.mix, F.avg_pool2d(pixels, 8)) + 0.3),)


def test_preview_is_the_best_linear_image() -> None:
    vae = Vae(LinearAutoencoder())  # type: ignore[arg-type]
    pixels = torch.rand(1, 3, 40, 48) * 2 - 1
    torch.testing.assert_close(vae.preview(vae.encode(pixels)), F.avg_pool2d(pixels, 8), atol=1e-4, rtol=0)
