"""Stable Diffusion 3 and 3.5: diffusers' SD3Transformer2DModel as an x0 estimator."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn

from cloisonne.core.attention.joint import joint_attention
from cloisonne.core.attention.joint_blocks import BlockGroups
from cloisonne.core.parameterization import Parameterization
from cloisonne.errors import CheckpointError, SceneError
from cloisonne.models.cost import Cost, count_cost
from cloisonne.models.mmdit.denoiser import JointAttention, JointDenoiser, RowInput
from cloisonne.models.mmdit.residuals import fitted
from cloisonne.models.mmdit.sequence import Order
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.region_lora import Lora

TIMES = 1000
"""The network's time is s times this."""


def sd3_spec(config: Mapping[str, Any], *, latent: str, vae_factor: int, prediction: Parameterization) -> NetSpec:
    """The spec of an SD3Transformer2DModel by its ``config.json``. Raises CheckpointError for other input channels."""
    given, wanted = config["in_channels"], config["out_channels"] or config["in_channels"]
    if given != wanted:
        raise CheckpointError(
            f"The transformer takes {given} input channels and returns {wanted}, as one fine-tuned for inpainting, "
            "which is not supported; load Stable Diffusion 3 or 3.5."
        )
    return NetSpec(
        latent=latent,
        latent_channels=wanted,
        extra_channels=0,
        token_width=config["joint_attention_dim"],
        pooled_width=config["pooled_projection_dim"],
        micro=(),
        vae_factor=vae_factor,
        net_factor=config["patch_size"],
        native_latent=config["sample_size"],
        prediction=prediction,
        computes_parts=True,
        patch=config["patch_size"],
        joint=True,
    )


class Sd3Denoiser(JointDenoiser):
    """Stable Diffusion 3, 3.5 Medium and 3.5 Large. The constructor replaces the network's attention processors.

    The sequence is [image, text]. Text tokens have no positions. Dual attention blocks (3.5 Medium) have a second
    layer, in which image tokens attend to image tokens alone.
    """

    order: Order = "image first"
    module: SD3Transformer2DModel

    def __init__(
        self,
        module: SD3Transformer2DModel,
        spec: NetSpec,
        attend: JointAttention = joint_attention,
        loras: Mapping[str, Lora] | None = None,
    ) -> None:
        super().__init__(module, spec, attend, loras)
        _install(module)
        processors: Any = {
            f"{name}.{layer}.processor": _Processor(block, attend)
            for block, name in enumerate(self.block_names())
            for layer in ("attn", "attn2")
            if getattr(module.transformer_blocks[block], layer) is not None
        }
        module.set_attn_processor(processors)

    def block_names(self) -> tuple[str, ...]:
        """The joint blocks."""
        return tuple(f"transformer_blocks.{i}" for i in range(len(self.module.transformer_blocks)))

    def flow(self, given: RowInput) -> Tensor:
        """The network's own output is the flow, at time 1000 s."""
        network: Any = self.module
        with _computing(given):
            return network(
                hidden_states=given.z,
                encoder_hidden_states=given.tokens,
                pooled_projections=given.pooled,
                timestep=torch.tensor([given.level * TIMES], device=given.z.device),
                block_controlnet_hidden_states=self._residuals(given),
                joint_attention_kwargs={"blocks": given.blocks},
                return_dict=False,
            )[0]

    def _residuals(self, given: RowInput) -> list[Tensor] | None:
        """[1, Q, D] behind each block; None without any."""
        some = next((own for own in given.residuals if own is not None), None)
        return None if some is None else fitted(given.residuals, some)

    def cost(self, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W), conditioned on ``num_tokens`` tokens."""
        self._grid(canvas)
        config = self.module.config
        with torch.device("meta"):
            module: Any = SD3Transformer2DModel.from_config(config)
            return count_cost(
                module,
                hidden_states=torch.empty(1, config["in_channels"], *canvas),
                encoder_hidden_states=torch.empty(1, num_tokens, self.spec.token_width),
                pooled_projections=torch.empty(1, self.spec.pooled_width),
                timestep=torch.empty(1),
            )

    def _grid(self, canvas: tuple[int, int]) -> tuple[int, int]:
        """The canvas in image tokens. Raises SceneError where it is larger than the network's table of positions."""
        grid, most = super()._grid(canvas), int(self.module.config["pos_embed_max_size"])
        if max(grid) > most:
            height, width = (side * self.spec.vae_factor for side in canvas)
            raise SceneError(
                f"The image is {width} x {height} pixels, but this network has positions for sides of at most "
                f"{most * self.spec.factor}; make it smaller."
            )
        return grid


# The network makes image tokens of its latents, and latents of its tokens, itself: where only some are computed, hooks
# on the first and the last layer leave out the others and put 0 in their place.

_GIVEN: ContextVar[RowInput | None] = ContextVar("computed_image_tokens", default=None)


@contextmanager
def _computing(given: RowInput) -> Iterator[None]:
    """In this context, the network computes the image tokens of a row alone that are to be computed."""
    before = _GIVEN.set(given)
    try:
        yield
    finally:
        _GIVEN.reset(before)


def _install(module: SD3Transformer2DModel) -> None:
    """Put the hooks on a network. Idempotent."""
    hooks: Any = {module.pos_embed: _leave_out, module.proj_out: _put_back}
    for layer, hook in hooks.items():
        if hook not in layer._forward_hooks.values():
            layer.register_forward_hook(hook)


def _leave_out(layer: nn.Module, inputs: tuple[Any, ...], tokens: Tensor) -> Tensor:
    return tokens if (given := _GIVEN.get()) is None else given.some(tokens)


def _put_back(layer: nn.Module, inputs: tuple[Any, ...], tokens: Tensor) -> Tensor:
    return tokens if (given := _GIVEN.get()) is None else given.whole(tokens)


class _Processor:
    """A diffusers attention processor of one layer of a block, which calls the attention function of ``core``."""

    def __init__(self, block: int, attend: JointAttention) -> None:
        self._block = block
        self._attend = attend

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        blocks: BlockGroups,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Image [1, Q, D] and text [1, N, D]; without text, the image alone."""
        layers = (attn.to_q, attn.to_k, attn.to_v)
        q, k, v = _projected(hidden_states, layers, (attn.norm_q, attn.norm_k), attn.heads)
        if encoder_hidden_states is None:
            image = blocks.attend_image(self._attend, q, k, v, self._block).transpose(1, 2).flatten(2)
            return attn.to_out[0](image)
        layers = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        norms = (attn.norm_added_q, attn.norm_added_k)
        text = _projected(encoder_hidden_states, layers, norms, attn.heads)
        q, k, v = (torch.cat(pair, 2) for pair in zip((q, k, v), text, strict=True))
        out = blocks.attend(self._attend, q, k, v, self._block).transpose(1, 2).flatten(2)
        image, words = out.split([hidden_states.shape[1], encoder_hidden_states.shape[1]], 1)
        # The last block has no further use of its text. to_out is a projection and a dropout.
        return attn.to_out[0](image), words if attn.context_pre_only else attn.to_add_out(words)


def _projected(x: Tensor, layers: tuple[Any, ...], norms: tuple[Any, Any], heads: int) -> list[Tensor]:
    """Queries, keys and values [1, heads, S, d] of x [1, S, D]; the first two through a norm, if there is one."""
    found = [layer(x).unflatten(-1, (heads, -1)).transpose(1, 2) for layer in layers]
    return [own if norm is None else norm(own) for own, norm in zip(found, (*norms, None), strict=True)]
