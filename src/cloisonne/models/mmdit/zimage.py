"""Z-Image and Z-Image Turbo as x0 estimators."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from torch import Tensor

from cloisonne.core.attention.joint import joint_attention
from cloisonne.core.parameterization import Parameterization
from cloisonne.errors import CheckpointError
from cloisonne.models.cost import Cost, count_cost
from cloisonne.models.mmdit.denoiser import JointAttention, JointDenoiser, RowInput
from cloisonne.models.mmdit.flux import NATIVE
from cloisonne.models.mmdit.region_lora import TokenSet
from cloisonne.models.mmdit.sequence import Order
from cloisonne.models.mmdit.zimage_network import MULTIPLE, PATCH, JointZImage, ZImageProcessor
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.region_lora import Lora


def zimage_spec(config: Mapping[str, Any], *, latent: str, vae_factor: int, prediction: Parameterization) -> NetSpec:
    """The spec of a ZImageTransformer2DModel by its ``config.json``.

    Raises CheckpointError for Z-Image Omni and other patches.
    """
    if config["siglip_feat_dim"] is not None:
        raise CheckpointError(
            f"The transformer has siglip_feat_dim {config['siglip_feat_dim']}, as Z-Image Omni, which is not "
            "supported; load Z-Image or Z-Image Turbo."
        )
    if list(config["all_patch_size"]) != [PATCH] or list(config["all_f_patch_size"]) != [1]:
        raise CheckpointError(
            f"The transformer has all_patch_size {config['all_patch_size']} and all_f_patch_size "
            f"{config['all_f_patch_size']}; Z-Image has [{PATCH}] and [1]."
        )
    return NetSpec(
        latent=latent,
        latent_channels=config["in_channels"],
        extra_channels=0,
        token_width=config["cap_feat_dim"],
        pooled_width=0,
        micro=(),
        vae_factor=vae_factor,
        net_factor=PATCH,
        native_latent=NATIVE // vae_factor,
        prediction=prediction,
        computes_parts=True,
        patch=PATCH,
        joint=True,
    )


class ZImageDenoiser(JointDenoiser):
    """Z-Image and Turbo. The constructor replaces the network's attention processors.

    The network's time is 1 - s, and its output is the negative of the flow.
    """

    module: JointZImage
    order: Order = "image first"
    multiple = MULTIPLE

    def __init__(
        self,
        module: JointZImage,
        spec: NetSpec,
        attend: JointAttention = joint_attention,
        loras: Mapping[str, Lora] | None = None,
    ) -> None:
        super().__init__(module, spec, attend, loras)
        network: Any = module
        for layer in (*network.noise_refiner, *network.context_refiner, *network.layers):
            layer.attention.set_processor(ZImageProcessor(attend))

    def block_names(self) -> tuple[str, ...]:
        """The layers of the joint sequence; the refiners see the image or one text alone."""
        return tuple(f"layers.{i}" for i in range(len(self.module.layers)))

    def tokens_of(self, layer: str) -> TokenSet:
        """Which tokens a layer reads; of those that read text, each text is a call of its own."""
        if layer.startswith(("cap_embedder.", "context_refiner.")):
            return "text"
        return "image" if layer.startswith(("all_x_embedder.", "noise_refiner.")) else "all"

    def flow(self, given: RowInput) -> Tensor:
        """The negative of the network's output."""
        return -self.module(given)

    def cost(self, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W), conditioned on ``num_tokens`` tokens."""
        config = self.module.config
        with torch.device("meta"):
            module: Any = ZImageTransformer2DModel.from_config(config)
            return count_cost(
                module,
                x=[torch.empty(config["in_channels"], 1, *canvas)],
                t=torch.empty(1),
                cap_feats=[torch.empty(num_tokens, self.spec.token_width)],
            )
