"""A diffusers UNet2DConditionModel as an x0 estimator (Stable Diffusion 1.x, 2.x, XL and the built-in family)."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self, runtime_checkable

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from cloisonne.core.attention.regional import (
    TextAttention,
    gathered,
    image_prompt_attention,
    is_bias,
    self_attention,
    text_attention,
    text_bias,
)
from cloisonne.core.parameterization import to_x0
from cloisonne.core.plan import Call, Site
from cloisonne.core.region_lora import LoraScales
from cloisonne.core.run import DeepFeatures
from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.compiled import running_uncompiled
from cloisonne.models.cost import Cost, count_cost
from cloisonne.models.denoiser import Denoiser
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet import deep_features, dilation, features
from cloisonne.models.unet.injection_points import DOWN, SKIP_MID
from cloisonne.models.unet.region_lora import Added, Lora, applying_loras, grid_of, install, with_text
from cloisonne.models.unet.sites import on_canvas, sites_of

ImagePromptWeights = tuple[Tensor, Tensor]
"""One layer's projections of image prompts to keys and values: [C, D] each."""


class UNetDenoiser:
    """A UNet as a :class:`~cloisonne.models.denoiser.Denoiser`: estimates x0 from a call.

    The constructor replaces the UNet's attention processors; call the UNet only through this object. The processors
    are stateless: a run's state travels in the call. text_attention: ``gathered``, or its oracle ``dense``. pictures:
    an IP-Adapter's weights [C, D] for keys and values of image prompts, by cross-attention layer. loras: LoRAs by
    region, by name. Their hooks are permanent, so a UNet takes them once.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        spec: NetSpec,
        text_attention: TextAttention = gathered,
        image_prompts: Mapping[str, ImagePromptWeights] | None = None,
        loras: Mapping[str, Lora] | None = None,
    ) -> None:
        _check(unet)
        self.unet = unet
        self.spec = spec
        self.modules = (unet,)
        self.text_attention = text_attention
        self.image_prompts = image_prompts or {}
        self.loras = loras or {}
        self.dilation = 1
        processors: Any = {
            name: _Processor(site, self.image_prompts.get(site.layer), self.loras)
            for name, site in sites_of(unet.attn_processors).items()
        }
        unet.set_attn_processor(processors)
        install(unet, self.loras)
        features.install(unet)
        deep_features.install(unet)
        dilation.install(unet)

    def enlarged(self, scale: float) -> Self:
        """The same UNet for canvases ``scale`` times as wide and high as in training: deep layers are dilated."""
        other = copy.copy(self)
        other.dilation = dilation.dilation_of(scale)
        return other

    def __call__(self, call: Call) -> Tensor:
        """Estimate of x0, float32 [R, C, H, W]. Raises CapabilityError where the call does not fit the UNet."""
        if call.loras is not None and (missing := call.loras.names - self.loras.keys()):
            raise CapabilityError(
                f'View "{call.rows[0].view}": the network has no LoRA "{min(missing)}"; load it for regions.'
            )
        if call.image_prompts is not None and not self.image_prompts:
            raise CapabilityError(
                f'View "{call.rows[0].view}": image prompts were given, but the network has no IP-Adapter; load one.'
            )
        if call.joint:
            raise CapabilityError(f'View "{call.rows[0].view}": a UNet has no joint attention of text and image.')
        if call.references:
            raise CapabilityError(f'View "{call.rows[0].view}": a UNet takes no reference images.')
        deep = call.deep if self.reuses_features else None
        shares = any(edit.features(call) for edit in call.edits)
        with (
            running_uncompiled(call.loras is not None or self.dilation > 1 or shares),
            applying_loras(call),
            features.sharing_features(call),
            dilation.dilating(self.dilation),
            deep_features.reusing(deep) as outer,
        ):
            output = self._output(call, outer)
        if deep is not None:
            deep.reused = outer
        return to_x0(output.float(), call.z, call.step, self.spec.prediction)

    @property
    def reuses_features(self) -> bool:
        """Whether it takes ``Call.deep``."""
        return deep_features.has_deep_features(self.unet)

    def sites(self, canvas: tuple[int, int]) -> tuple[Site, ...]:
        """The attention layers on a canvas (H, W), in the order of a forward pass."""
        num_levels = len(self.unet.config["block_out_channels"])
        return tuple(on_canvas(site, canvas, num_levels) for site in sites_of(self.unet.attn_processors).values())

    def cost(self, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W), conditioned on a sequence of ``num_tokens``.

        Masked text sequences cost no more: the work depends on the canvas, not on the number of texts.
        """
        return self._cost(canvas, num_tokens)

    def outer_cost(self, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """As :meth:`cost`, of a forward that reuses deep features."""
        with torch.device("meta"):
            value = torch.empty(1, deep_features.channels(self.unet), *canvas)
        return self._cost(canvas, num_tokens, DeepFeatures(value))

    def _cost(self, canvas: tuple[int, int], num_tokens: int, deep: DeepFeatures | None = None) -> Cost:
        with torch.device("meta"):
            unet: Any = UNet2DConditionModel.from_config(self.unet.config)
            deep_features.install(unet)
            z = torch.empty(1, self.spec.latent_channels + self.spec.extra_channels, *canvas)
            text = torch.empty(1, num_tokens, self.spec.token_width)
            with deep_features.reusing(deep):
                return count_cost(unet, z, torch.empty(1), text, added_cond_kwargs=added_inputs(self.spec))

    def _output(self, call: Call, outer: bool) -> Tensor:
        """outer: only the outer layers run, so that features which enter the encoder's blocks have no place."""
        dtype = self.unet.dtype
        down, found = ([r.to(dtype) for r in call.residuals.get(point, ())] for point in (DOWN, SKIP_MID))
        skips, mid = found[:-1], found[-1:]
        return self.unet(
            self._input(call).to(dtype),
            torch.full((len(call.rows),), call.step.t, device=call.z.device),
            # The processors take the text from the call; the UNet only passes this on.
            encoder_hidden_states=call.z.new_empty(len(call.rows), 0, self.spec.token_width),
            timestep_cond=self._guidance(call, dtype),
            cross_attention_kwargs={"call": call, "attend": self.text_attention},
            added_cond_kwargs=self._added(call, dtype),
            down_block_additional_residuals=tuple(skips) or None,
            mid_block_additional_residual=mid[0] if mid else None,
            # A fresh list, because the UNet pops from it.
            down_intrablock_additional_residuals=None if outer else list(down) or None,
            return_dict=False,
        )[0]

    def _input(self, call: Call) -> Tensor:
        given = 0 if call.channels is None else call.channels.shape[1]
        if given != self.spec.extra_channels:
            raise CapabilityError(
                f'View "{call.rows[0].view}": {given} extra input channels were given, but the network takes '
                f"{self.spec.extra_channels}; use a condition that fits it, or load another network."
            )
        return call.z if call.channels is None else torch.cat([call.z, call.channels], dim=1)

    def _guidance(self, call: Call, dtype: torch.dtype) -> Tensor | None:
        """The scale w of guidance as [R, D] sines and cosines of 1000 (w - 1), for networks that take it (LCM)."""
        if not self.spec.embeds_guidance:
            return None
        width = self.unet.config["time_cond_proj_dim"]
        steps = get_timestep_embedding(
            (call.micro["guidance"][:, 0].float() - 1) * 1000, width, flip_sin_to_cos=False, downscale_freq_shift=1
        )
        return steps.to(dtype)

    def _added(self, call: Call, dtype: torch.dtype) -> dict[str, Tensor] | None:
        wanted = (
            ("text_embeds", self.spec.pooled_width > 0, call.pooled),
            ("time_ids", "size" in self.spec.micro, call.micro.get("size")),
        )
        if any(needed and given is None for _, needed, given in wanted):
            raise CapabilityError(
                f'View "{call.rows[0].view}": the network needs pooled text and size conditioning; '
                "encode the text with its own text encoders."
            )
        return {name: given.to(dtype) for name, needed, given in wanted if needed and given is not None} or None


def unet_of(net: Denoiser, wanted_by: str) -> UNetDenoiser:
    """The network as a UNet. wanted_by: what fits only UNets, at the start of the message of a CapabilityError."""
    if not isinstance(net, UNetDenoiser):
        raise CapabilityError(f"{wanted_by} fits only UNets, and this model has another network; leave it out.")
    return net


def added_inputs(spec: NetSpec) -> dict[str, Tensor] | None:
    """Empty pooled text and size of one batch row, for networks that take them; None for others."""
    pooled = {"text_embeds": torch.empty(1, spec.pooled_width)} if spec.pooled_width else {}
    size = {"time_ids": torch.empty(1, 6)} if "size" in spec.micro else {}
    return pooled | size or None


@runtime_checkable
class _Layer(Protocol):
    """The used attributes of a diffusers attention layer."""

    heads: int
    rescale_output_factor: float
    to_q: Callable[[Tensor], Tensor]
    to_k: Callable[[Tensor], Tensor]
    to_v: Callable[[Tensor], Tensor]
    to_out: Sequence[Callable[[Tensor], Tensor]]


class _Processor:
    """A diffusers attention processor of one layer, which calls the attention functions of ``core``."""

    def __init__(self, site: Site, image_prompts: ImagePromptWeights | None, loras: Mapping[str, Lora]) -> None:
        """site: of the layer, with no grid yet."""
        self._site = site
        self._image_prompts = image_prompts
        self._keys, self._values = (_changes(f"{site.layer}.{part}", loras) for part in ("to_k", "to_v"))

    def __call__(
        self,
        attn: _Layer,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        call: Call,
        attend: TextAttention,
    ) -> Tensor:
        grid = grid_of(hidden_states.shape[1], (call.z.shape[-2], call.z.shape[-1]))
        site = replace(self._site, grid=grid)
        if site.cross and is_bias(site, call):
            dtype = hidden_states.dtype
            out = text_bias(lambda tokens: attn.to_out[0](attn.to_v(tokens.to(dtype))), site, call.texts)
            return out / attn.rescale_output_factor
        q = attn.to_q(hidden_states)
        if site.cross:

            def project(tokens: Tensor, loras: Sequence[LoraScales] = ()) -> tuple[Tensor, Tensor]:
                tokens = tokens.to(q.dtype)
                k, v = attn.to_k(tokens), attn.to_v(tokens)
                if not loras:
                    return k, v
                return (
                    with_text(k, tokens, loras, self._keys, attn.to_k),
                    with_text(v, tokens, loras, self._values, attn.to_v),
                )

            out = text_attention(q, attn.heads, project, site, call, attend)
            if call.image_prompts is not None:
                out = out + image_prompt_attention(q, attn.heads, self._project, site, call.image_prompts)
        else:
            out = self_attention(q, attn.to_k(hidden_states), attn.to_v(hidden_states), attn.heads, site, call)
        # to_out is a projection and a dropout.
        return attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor

    def _project(self, tokens: Tensor, loras: Sequence[LoraScales] = ()) -> tuple[Tensor, Tensor]:
        """Keys and values [T, N, C] of image prompts [T, N, D]; the weights may be on another device than the UNet."""
        assert self._image_prompts is not None, "the network has an IP-Adapter"
        k, v = (weight.to(tokens.device) for weight in self._image_prompts)
        tokens = tokens.to(k.dtype)
        return F.linear(tokens, k), F.linear(tokens, v)


def _changes(layer: str, loras: Mapping[str, Lora]) -> dict[str, Added]:
    return {name: lora.layers[layer] for name, lora in loras.items() if layer in lora.layers}


def _check(unet: UNet2DConditionModel) -> None:
    """Refuse UNets whose attention is more than projections and a softmax, or which take text by another input."""
    config = unet.config
    text_input = config["encoder_hid_dim_type"] or config["addition_embed_type"]
    if text_input not in (None, "text_time"):
        raise CheckpointError(
            f'The UNet takes its text by "{text_input}", which is not Stable Diffusion 1.x, 2.x or XL; load one of '
            "these."
        )
    for name, layer in unet.named_modules():
        if isinstance(layer, Attention) and (layer.group_norm is not None or layer.added_kv_proj_dim is not None):
            raise CheckpointError(
                f'The UNet\'s attention layer "{name}" has added parts; load a Stable Diffusion UNet.'
            )
