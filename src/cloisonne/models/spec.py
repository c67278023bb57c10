"""What a scene is checked against before a network runs: its latent space, inputs and geometry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloisonne.core.parameterization import Parameterization


@dataclass(frozen=True, kw_only=True)
class NetSpec:
    """Latent space, inputs and geometry of a network.

    latent: identifies the latent space and noise schedule; estimates of networks with equal ids can be fused.
    latent_channels: C of the canvas. extra_channels: K of ``Conditioning.channels``. token_width: D of the text.
    pooled_width: P of ``Conditioning.pooled``, 0 if the network takes none.
    micro: names of ``Conditioning.micro`` that it takes: "size", the original, crop and target size (SDXL); "guidance",
    the scale of embedded guidance (FLUX.1 dev).
    vae_factor: pixels to a latent pixel. net_factor: latent pixels to a pixel of the deepest feature map; windows of
    the canvas are multiples of it. native_latent: side of the square canvas it was trained on, in latent pixels.
    prediction: what its output means. patch: side of the square of latent pixels that is one image token; 1 for UNets.
    takes_references: whether reference images are further image tokens. reference_sizes: (width, height) in pixels of
    those that it was trained with, to the nearest of which in ratio they are resized; () for any size. joint: whether
    text and image are one sequence with one softmax, whose network takes the masks of ``JointLayout``. computes_parts:
    whether some image tokens can be computed alone, next to keys and values of the others.
    """

    latent: str
    latent_channels: int
    extra_channels: int
    token_width: int
    pooled_width: int
    micro: tuple[str, ...]
    vae_factor: int
    net_factor: int
    native_latent: int
    prediction: Parameterization
    patch: int = 1
    takes_references: bool = False
    reference_sizes: tuple[tuple[int, int], ...] = ()
    joint: bool = False
    computes_parts: bool = False

    @classmethod
    def from_unet(
        cls, config: Mapping[str, Any], *, latent: str, vae_factor: int, prediction: Parameterization
    ) -> "NetSpec":
        """The spec of a diffusers UNet2DConditionModel from its ``config.json``."""
        pooled, takes_size = 0, config["addition_embed_type"] == "text_time"
        if takes_size:
            pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        return cls(
            latent=latent,
            latent_channels=config["out_channels"],
            extra_channels=config["in_channels"] - config["out_channels"],
            token_width=config["cross_attention_dim"],
            pooled_width=pooled,
            micro=(*(("size",) if takes_size else ()), *(("guidance",) if config.get("time_cond_proj_dim") else ())),
            vae_factor=vae_factor,
            net_factor=2 ** (len(config["block_out_channels"]) - 1),
            native_latent=config["sample_size"],
            prediction=prediction,
        )

    @property
    def factor(self) -> int:
        """Pixels to a pixel of the deepest feature map: sides of images and windows are multiples of it."""
        return self.vae_factor * self.net_factor

    @property
    def inpaints(self) -> bool:
        """Whether the network also takes a mask and the masked image's latents, C + 1 extra channels, or C and the mask
        of each pixel (FLUX.1 Fill)."""
        return self.masks_pixels or self.extra_channels == self.latent_channels + 1

    @property
    def masks_pixels(self) -> bool:
        """Whether the mask of an inpainting network has a channel for each pixel of a latent pixel."""
        return self.vae_factor > 1 and self.extra_channels == self.latent_channels + self.vae_factor**2

    @property
    def embeds_guidance(self) -> bool:
        """Whether the scale of guidance is an input of the network, which then needs no null branch."""
        return "guidance" in self.micro

    @property
    def native_size(self) -> int:
        """Side of the square image the network was trained on, in pixels."""
        return self.native_latent * self.vae_factor
