"""FLUX.1, Fill and Kontext among them: diffusers' FluxTransformer2DModel as an x0 estimator."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor

from cloisonne.core.attention.joint import joint_attention
from cloisonne.core.attention.joint_blocks import BlockGroups
from cloisonne.core.parameterization import Parameterization
from cloisonne.errors import CheckpointError
from cloisonne.models.cost import Cost, count_cost
from cloisonne.models.mmdit.denoiser import JointAttention, JointDenoiser, RowInput
from cloisonne.models.mmdit.packing import image_positions, packed, unpacked
from cloisonne.models.mmdit.residuals import fitted
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.region_lora import Lora

PATCH = 2
"""Side of the square of latent pixels that is one image token."""
REFERENCE = 1
"""The position of a reference image among images; the canvas has 0. References by region are alternatives."""
NATIVE = 1024
"""Side of the usual square image, in pixels."""


KONTEXT_SIZES = (
    *((672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104)),
    *((1024, 1024), (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752), (1456, 720), (1504, 688)),
    (1568, 672),
)
"""Width and height of the reference images that Kontext was trained with."""


def flux_spec(
    config: Mapping[str, Any],
    *,
    latent: str,
    vae_factor: int,
    prediction: Parameterization,
    reference_sizes: tuple[tuple[int, int], ...] = (),
) -> NetSpec:
    """The spec of a FluxTransformer2DModel by its ``config.json``. reference_sizes: of Kontext.

    Raises CheckpointError for input channels that are neither the latents alone nor those of Fill.
    """
    given = config["in_channels"]
    wanted = config.get("out_channels") or given
    extra = (given - wanted) // PATCH**2
    if extra not in (0, wanted // PATCH**2 + vae_factor**2):
        raise CheckpointError(
            f"The transformer takes {given} input channels and returns {wanted}, as FLUX.1 Depth and Canny, "
            "which are not supported; load FLUX.1 dev, schnell, Fill or Kontext."
        )
    return NetSpec(
        latent=latent,
        latent_channels=wanted // PATCH**2,
        extra_channels=extra,
        token_width=config["joint_attention_dim"],
        pooled_width=config["pooled_projection_dim"],
        micro=("guidance",) if config["guidance_embeds"] else (),
        vae_factor=vae_factor,
        net_factor=PATCH,
        native_latent=NATIVE // vae_factor,
        prediction=prediction,
        computes_parts=True,
        patch=PATCH,
        joint=True,
        takes_references=bool(reference_sizes),
        reference_sizes=reference_sizes,
    )


class FluxDenoiser(JointDenoiser):
    """FLUX.1 dev, schnell, Fill and Kontext. The constructor replaces the network's attention processors.

    The sequence is [text, image, references]. All text tokens have position 0, so that the texts of regions need no
    positions of their own; image tokens have their row and column, those of references after ``REFERENCE``.
    """

    module: FluxTransformer2DModel

    def __init__(
        self,
        module: FluxTransformer2DModel,
        spec: NetSpec,
        attend: JointAttention = joint_attention,
        loras: Mapping[str, Lora] | None = None,
    ) -> None:
        super().__init__(module, spec, attend, loras)
        processors: Any = {
            f"{name}.attn.processor": FluxProcessor(block, attend) for block, name in enumerate(self.block_names())
        }
        module.set_attn_processor(processors)

    def block_names(self) -> tuple[str, ...]:
        """The double blocks, then the single ones."""
        kinds = ("transformer_blocks", "single_transformer_blocks")
        return tuple(f"{kind}.{i}" for kind in kinds for i in range(len(getattr(self.module, kind))))

    def flow(self, given: RowInput) -> Tensor:
        """The network's own output is the flow, at time s."""
        device, axes = given.z.device, len(self.module.config["axes_dims_rope"])
        own = given.z if given.channels is None else torch.cat([given.z, given.channels], 1)
        tokens = [packed(one, PATCH) for one in (own, *(reference[None] for reference in given.references))]
        grids = [(one.shape[-2] // PATCH, one.shape[-1] // PATCH) for one in given.references]
        positions = [image_positions(given.grid, axes, device)]
        positions += [image_positions(grid, axes, device, image=REFERENCE) for grid in grids]
        image, double = given.some(torch.cat(tokens, 1)), len(self.module.transformer_blocks)
        output = self.module(
            hidden_states=image,
            encoder_hidden_states=given.tokens,
            pooled_projections=given.pooled,
            timestep=torch.tensor([given.level], device=device),
            guidance=given.micro["guidance"][:, 0] if "guidance" in given.micro else None,
            txt_ids=torch.zeros(given.tokens.shape[1], axes, device=device),
            img_ids=given.some(torch.cat(positions)[None])[0],
            controlnet_block_samples=fitted(given.residuals[:double], image),
            controlnet_single_block_samples=fitted(given.residuals[double:], image),
            joint_attention_kwargs={"blocks": given.blocks},
            return_dict=False,
        )[0]
        return unpacked(given.whole(output), given.grid, PATCH)

    def cost(self, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W), conditioned on ``num_tokens`` tokens."""
        grid, config = self._grid(canvas), self.module.config
        axes = len(config["axes_dims_rope"])
        with torch.device("meta"):
            module: Any = FluxTransformer2DModel.from_config(config)
            return count_cost(
                module,
                hidden_states=torch.empty(1, grid[0] * grid[1], config["in_channels"]),
                encoder_hidden_states=torch.empty(1, num_tokens, self.spec.token_width),
                pooled_projections=torch.empty(1, self.spec.pooled_width),
                timestep=torch.empty(1),
                guidance=torch.empty(1) if self.spec.embeds_guidance else None,
                txt_ids=torch.empty(num_tokens, axes),
                img_ids=torch.empty(grid[0] * grid[1], axes),
            )


class FluxProcessor:
    """A diffusers attention processor of one block, which calls the attention function of ``core``.

    Called with a FluxAttention, or a Flux2Attention; double blocks project the text by layers of its own.
    """

    def __init__(self, block: int, attend: JointAttention) -> None:
        self._block = block
        self._attend = attend

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        *,
        blocks: BlockGroups,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Image [1, Q, D] and text [1, N, D] of a double block; [1, N + Q, D] of both in a single block."""
        q, k, v = (heads_of(layer(hidden_states), attn) for layer in (attn.to_q, attn.to_k, attn.to_v))
        q, k = attn.norm_q(q), attn.norm_k(k)
        if encoder_hidden_states is not None:
            layers = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            text_q, text_k, text_v = (heads_of(layer(encoder_hidden_states), attn) for layer in layers)
            text_q, text_k = attn.norm_added_q(text_q), attn.norm_added_k(text_k)
            q, k, v = (torch.cat(pair, 2) for pair in ((text_q, q), (text_k, k), (text_v, v)))
        if image_rotary_emb is not None:
            rotated: Any = apply_rotary_emb  # its annotation is of one tensor
            q, k = rotated(q, image_rotary_emb), rotated(k, image_rotary_emb)
        out = blocks.attend(self._attend, q, k, v, self._block).transpose(1, 2).flatten(2)
        if encoder_hidden_states is None:
            return out
        text, image = out.split([encoder_hidden_states.shape[1], hidden_states.shape[1]], 1)
        # to_out is a projection and a dropout.
        return attn.to_out[0](image), attn.to_add_out(text)


def heads_of(x: Tensor, attn: Any) -> Tensor:
    """[1, S, heads * d] to [1, heads, S, d]."""
    return x.unflatten(-1, (-1, attn.head_dim)).transpose(1, 2)
