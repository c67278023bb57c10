"""FLUX.2 klein: diffusers' Flux2Transformer2DModel as an x0 estimator."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.attention.joint import joint_attention
from cloisonne.core.attention.joint_blocks import BlockGroups
from cloisonne.core.parameterization import Parameterization
from cloisonne.errors import CheckpointError
from cloisonne.models.cost import Cost, count_cost
from cloisonne.models.mmdit.denoiser import JointAttention, JointDenoiser, RowInput
from cloisonne.models.mmdit.flux import NATIVE, FluxProcessor, heads_of
from cloisonne.models.mmdit.packing import image_positions, packed, unpacked
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.region_lora import Lora

AXES = 4
"""Positions of a token: of its image, its row, its column, and its place in a text."""
REFERENCE = 10
"""The position of a reference image among images; the canvas has 0. References by region are alternatives."""


def flux2_spec(config: Mapping[str, Any], *, latent: str, vae_factor: int, prediction: Parameterization) -> NetSpec:
    """The spec of a Flux2Transformer2DModel by its ``config.json``. A latent pixel is an image token.

    Raises CheckpointError for FLUX.2 dev, other patches and other axes.
    """
    if config["guidance_embeds"]:
        raise CheckpointError(
            "The transformer takes guidance as an input, as FLUX.2 dev, which is not supported; load FLUX.2 klein."
        )
    if config["patch_size"] != 1 or config.get("out_channels") not in (None, config["in_channels"]):
        raise CheckpointError(
            f"The transformer has patch_size {config['patch_size']} and out_channels {config.get('out_channels')}; "
            "FLUX.2 klein has patch_size 1 and as many output as input channels."
        )
    if len(config["axes_dims_rope"]) != AXES:
        raise CheckpointError(f"The transformer has axes_dims_rope {config['axes_dims_rope']}; {AXES} are needed.")
    return NetSpec(
        latent=latent,
        latent_channels=config["in_channels"],
        extra_channels=0,
        token_width=config["joint_attention_dim"],
        pooled_width=0,
        micro=(),
        vae_factor=vae_factor,
        net_factor=1,
        native_latent=NATIVE // vae_factor,
        prediction=prediction,
        computes_parts=True,
        takes_references=True,
        joint=True,
    )


class Flux2Denoiser(JointDenoiser):
    """FLUX.2 klein, distilled or not. The constructor replaces the network's attention processors.

    The sequence is [text, image, references]. The positions of each text begin anew: texts of regions are
    alternatives. Image tokens have their row and column.
    """

    module: Flux2Transformer2DModel

    def __init__(
        self,
        module: Flux2Transformer2DModel,
        spec: NetSpec,
        attend: JointAttention = joint_attention,
        loras: Mapping[str, Lora] | None = None,
    ) -> None:
        super().__init__(module, spec, attend, loras)
        double = len(module.transformer_blocks)
        processors: Any = {
            f"{name}.attn.processor": FluxProcessor(i, attend) if i < double else Flux2SingleProcessor(i, attend)
            for i, name in enumerate(self.block_names())
        }
        module.set_attn_processor(processors)

    def block_names(self) -> tuple[str, ...]:
        """The double blocks, then the single ones."""
        kinds = ("transformer_blocks", "single_transformer_blocks")
        return tuple(f"{kind}.{i}" for kind in kinds for i in range(len(getattr(self.module, kind))))

    def flow(self, given: RowInput) -> Tensor:
        """The network's own output is the flow, at time s."""
        device = given.z.device
        images = [given.z[0], *given.references]
        positions = [
            image_positions((own.shape[-2], own.shape[-1]), AXES, device, image=0 if i == 0 else REFERENCE)
            for i, own in enumerate(images)
        ]
        output = self.module(
            hidden_states=given.some(torch.cat([packed(own[None], 1) for own in images], 1)),
            encoder_hidden_states=given.tokens,
            timestep=torch.tensor([given.level], device=device),
            txt_ids=text_positions(given.lengths, device),
            img_ids=given.some(torch.cat(positions)[None])[0],
            joint_attention_kwargs={"blocks": given.blocks},
            return_dict=False,
        )[0]
        return unpacked(given.whole(output), given.grid, 1)

    def cost(self, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W), conditioned on ``num_tokens`` tokens."""
        config, num_image = self.module.config, canvas[0] * canvas[1]
        with torch.device("meta"):
            module: Any = Flux2Transformer2DModel.from_config(config)
            return count_cost(
                module,
                hidden_states=torch.empty(1, num_image, config["in_channels"]),
                encoder_hidden_states=torch.empty(1, num_tokens, self.spec.token_width),
                timestep=torch.empty(1),
                txt_ids=torch.empty(num_tokens, AXES),
                img_ids=torch.empty(num_image, AXES),
            )


def text_positions(lengths: Sequence[int], device: torch.device | None = None) -> Float[Tensor, "N axes"]:
    """[N, 4]: the place of each token in its own text as the last axis; the others are 0."""
    positions = torch.zeros(sum(lengths), AXES)
    positions[:, 3] = torch.cat([torch.arange(length) for length in lengths])
    return positions.to(device)


class Flux2SingleProcessor:
    """A diffusers attention processor of one single block, which calls the attention function of ``core``.

    Called with a Flux2ParallelSelfAttention, whose layers are also those of the block's MLP.
    """

    def __init__(self, block: int, attend: JointAttention) -> None:
        self._block = block
        self._attend = attend

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        *,
        blocks: BlockGroups,
    ) -> Tensor:
        """[1, S, D] of text and image to the same."""
        inner = attn.inner_dim
        *projected, mlp = attn.to_qkv_mlp_proj(hidden_states).split(
            [inner, inner, inner, attn.mlp_hidden_dim * attn.mlp_mult_factor], -1
        )
        q, k, v = (heads_of(x, attn) for x in projected)
        q, k = attn.norm_q(q), attn.norm_k(k)
        if image_rotary_emb is not None:
            rotated: Any = apply_rotary_emb  # its annotation is of one tensor
            q, k = rotated(q, image_rotary_emb), rotated(k, image_rotary_emb)
        out = blocks.attend(self._attend, q, k, v, self._block).transpose(1, 2).flatten(2)
        return attn.to_out(torch.cat([out, attn.mlp_act_fn(mlp)], -1))
