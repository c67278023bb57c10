"""A diffusers AutoencoderKL, or FLUX.2's, as the map between images and latents."""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.autoencoders.vae import Decoder
from torch import Tensor

from cloisonne.core.finite import first_not_finite
from cloisonne.errors import CheckpointError, NotFiniteError
from cloisonne.models.cost import Cost, count_cost
from cloisonne.models.tiled_decoding import decode_in_tiles

Autoencoder = AutoencoderKL | AutoencoderKLFlux2


class Vae:
    """Images, float32 [B, 3, height, width] in [-1, 1], to latents, float32 [B, C, H, W], and back.

    Latents have about unit variance: ``(z - shift_factor) * scaling_factor`` of the autoencoder's own z; where its
    configuration has statistics of each channel, ``(z - latents_mean) * scaling_factor / latents_std``.
    channels: C. factor: pixels to a latent pixel. scale, shift: of all channels or of each. device: where it runs; None
    means the device of its weights. An autoencoder of ``3 * p * p`` input channels works on images whose p x p pixels
    are unshuffled into channels (p = 1 for Stable Diffusion). FLUX.2's autoencoder has the statistics of 2 x 2 squares
    of its own latent pixels: these squares are the latent pixels here.
    """

    def __init__(self, module: Autoencoder, device: torch.device | None = None) -> None:
        config = module.config
        self.module: Any = module
        self._device = device
        self._patch = _patch(config["in_channels"])
        self._square = _square(config)
        self.channels: int = config["latent_channels"] * self._square**2
        self.factor = self._patch * 2 ** (len(config["block_out_channels"]) - 1) * self._square
        self.scale, self.shift = _batch_statistics(module) if self._square > 1 else _statistics(config)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """The posterior's mean, without sampling; height and width must be multiples of ``factor``.

        Raises NotFiniteError where it is NaN or infinite.
        """
        unshuffled = F.pixel_unshuffle(self._own(pixels), self._patch)
        mean = self.module.encode(unshuffled, return_dict=False)[0].mean
        _check_finite(mean, "encoded", self.module)
        return self.scaled(mean.float())

    def scaled(self, latents: Tensor) -> Tensor:
        """The autoencoder's own latents [B, ...], as latent pixels [B, C, H, W] normalised to about unit variance."""
        latents = F.pixel_unshuffle(latents, self._square)
        return (latents - _each(self.shift, latents)) * _each(self.scale, latents)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The image; its values may leave [-1, 1] a little. Raises NotFiniteError where it is NaN or infinite."""
        pixels = self.decoded(latents)
        _check_finite(pixels, "decoded", self.module)
        return pixels

    def decoded(self, latents: Tensor) -> Tensor:
        """As :meth:`decode`, unchecked and with a gradient to the latents."""
        own = F.pixel_shuffle(latents / _each(self.scale, latents) + _each(self.shift, latents), self._square)
        unshuffled = self._decoded(self._own(own))
        return F.pixel_shuffle(unshuffled.float(), self._patch)

    def _decoded(self, own: Tensor) -> Tensor:
        """Decode the autoencoder's own latents, in tiles where these are enabled and the image is larger than one."""
        tile = self.module.tile_latent_min_size
        if not self.module.use_tiling or max(own.shape[-2:]) <= tile or not isinstance(self.module.decoder, Decoder):
            return self.module.decode(own, return_dict=False)[0]
        if (hook := getattr(self.module, "_hf_hook", None)) is not None:  # of offloading
            hook.pre_forward(self.module)
        return decode_in_tiles(self.module, own, tile)

    def cost(self, canvas: tuple[int, int]) -> Cost:
        """Decoding a canvas (H, W) to an image; nothing is computed."""
        with torch.device("meta"):
            module: Any = type(self.module).from_config(self.module.config)
            own = torch.empty(1, self.channels, *canvas)
            return count_cost(module.decoder, F.pixel_shuffle(own, self._square))

    def preview(self, latents: Tensor) -> Tensor:
        """An image [B, 3, H, W], one pixel for each latent pixel, by a fitted linear map of the latents."""
        weight = self._linear.to(latents.device)
        return torch.einsum("bchw,cr->brhw", F.pad(latents, (0, 0, 0, 0, 0, 1), value=1.0), weight)

    @cached_property
    def _linear(self) -> Tensor:
        """[C + 1, 3]: from latents and 1 to mean colours, by least squares over a few smooth images."""
        generator = torch.Generator("cpu").manual_seed(0)
        blobs = torch.rand(4, 3, 5, 5, generator=generator) * 2 - 1
        pixels = F.interpolate(blobs, size=16 * self.factor, mode="bicubic", align_corners=True).clamp(-1, 1)
        latents = self.encode(pixels).cpu()
        colours = F.avg_pool2d(pixels, self.factor)
        known = F.pad(latents, (0, 0, 0, 0, 0, 1), value=1.0).permute(0, 2, 3, 1).flatten(0, 2)
        return torch.linalg.lstsq(known, colours.permute(0, 2, 3, 1).flatten(0, 2)).solution

    def _own(self, values: Tensor) -> Tensor:
        return values.to(self._device or self.module.device, self.module.dtype)


Number = float | tuple[float, ...]
"""One number for all channels, or one for each."""


def _statistics(config: Mapping[str, Any]) -> tuple[Number, Number]:
    """Scale and shift of a configuration. Raises CheckpointError for statistics that do not fit."""
    scale, shift = config["scaling_factor"], config.get("shift_factor") or 0.0
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None and std is None:
        return scale, shift
    count = config["latent_channels"]
    if mean is None or std is None or len(mean) != count or len(std) != count or 0 in std or shift:
        raise CheckpointError(
            f"The autoencoder has latents_mean {mean}, latents_std {std} and shift_factor {shift}; the first two "
            f"belong together, with {count} numbers each, none of latents_std 0, and without a shift_factor."
        )
    return tuple(scale / one for one in std), tuple(mean)


def _square(config: Mapping[str, Any]) -> int:
    """Side of the square of the autoencoder's own latent pixels that is one latent pixel."""
    height, width = config.get("patch_size", (1, 1))
    if height != width:
        raise CheckpointError(f"The autoencoder has patch_size [{height}, {width}]; only squares are supported.")
    return height


def _batch_statistics(module: Any) -> tuple[Number, Number]:
    """Scale and shift of each channel from the statistics of a batch normalisation. CheckpointError where one is 0."""
    mean, variance = module.bn.running_mean.double(), module.bn.running_var.double() + module.config.batch_norm_eps
    if not bool((variance > 0).all()):
        raise CheckpointError("The autoencoder has a channel without variance (bn.running_var); load a sound file.")
    return tuple(variance.rsqrt().tolist()), tuple(mean.tolist())


def _each(number: Number, latents: Tensor) -> float | Tensor:
    """A number, or those of each channel of latents [B, C, H, W] as [C, 1, 1]."""
    return torch.tensor(number, device=latents.device)[:, None, None] if isinstance(number, tuple) else number


def _patch(in_channels: int) -> int:
    patch = math.isqrt(in_channels // 3)
    if 3 * patch * patch != in_channels:
        raise CheckpointError(
            f"The autoencoder takes {in_channels} channels, which is no RGB image, unshuffled or not; load one of 3, "
            "12, 27, 48, ... channels."
        )
    return patch


def _check_finite(pixels: Tensor, what: str, module: Any) -> None:
    """Raise NotFiniteError where an autoencoder returns NaN or infinity. what: "decoded" or "encoded"."""
    if bool(torch.isfinite(pixels).all()):
        return
    start = f"The autoencoder {what} finite numbers to NaN or infinity"
    found = first_not_finite(dict(module.state_dict()))
    if found is not None:
        raise NotFiniteError(f'{start}: its weights hold some ("{found}"); load a sound file.', explained=True)
    if module.dtype == torch.float16:
        raise NotFiniteError(
            f'{start}: it overflows float16, which ends at 65504; set "force_upcast": true in the config.json of its '
            "folder, which keeps it in float32, or load the model in bfloat16 or float32.",
            explained=True,
        )
    raise NotFiniteError(f"{start}, though its weights are finite; load another autoencoder.", explained=True)
