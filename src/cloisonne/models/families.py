"""The model families: what each is called, what its folders hold, which classes read it, and its usual values.

A new family is a row here, and the files that its row names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from cloisonne.core.flow_schedule import FlowSchedule
from cloisonne.core.noise_schedule import NoiseSchedule
from cloisonne.core.schedule import Schedule
from cloisonne.models.denoiser import Denoiser
from cloisonne.models.mmdit.flux import KONTEXT_SIZES, FluxDenoiser, flux_spec
from cloisonne.models.mmdit.flux2 import Flux2Denoiser, flux2_spec
from cloisonne.models.mmdit.sd3 import Sd3Denoiser, sd3_spec
from cloisonne.models.mmdit.zimage import ZImageDenoiser, zimage_spec
from cloisonne.models.model import Native
from cloisonne.models.spec import NetSpec
from cloisonne.models.text.clip import ClipTextEncoder
from cloisonne.models.text.encoder import TextEncoder
from cloisonne.models.text.no_text import NoText
from cloisonne.models.text.qwen import FLUX2, ZIMAGE, QwenTextEncoder
from cloisonne.models.text.sd3 import Sd3TextEncoder
from cloisonne.models.text.t5 import FluxTextEncoder
from cloisonne.models.unet.denoiser import UNetDenoiser


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """One model family.

    Attributes:
        name: Its key in ``FAMILIES``, which records and checkpoints' parts repeat.
        title: What messages and tables call it.
        members: Members of a diffusers folder that are read, each with its accepted classes in ``model_index.json``;
            the scheduler is checked elsewhere.
        spec: Makes the NetSpec from the network's configuration and what the VAE and the schedule determine.
        denoiser: Makes the denoiser from the network that was read and its NetSpec.
        text: Makes the text encoder.
        schedule: Makes the noise schedule from a ``scheduler_config.json``.
        native: The usual values of a scene; checkpoints' own sizes replace width and height.
        reach: By this factor a side may be longer or shorter than the native one.
        takes_size: Whether the network takes the image's size as conditioning.
        supports: Conditions of ``KINDS`` in ``methods/kinds.py`` that need nothing besides its own files.
        takes_add_ons: Whether the adapters, LoRAs and exemplar networks of Stable Diffusion fit its network.
    """

    name: str
    title: str
    members: Mapping[str, tuple[str, ...]]
    spec: Callable[..., NetSpec]
    denoiser: Callable[..., Denoiser]
    text: Callable[..., TextEncoder]
    schedule: Callable[[Mapping[str, Any]], NoiseSchedule]
    native: Native
    reach: float = 1.5
    takes_size: bool = False
    supports: frozenset[str] = frozenset()
    takes_add_ons: bool = False


_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
_UNET = {"unet": ("UNet2DConditionModel",), "vae": ("AutoencoderKL",)}
_SD = {**_UNET, "text_encoder": ("CLIPTextModel",), "tokenizer": _TOKENIZERS}
_XL = {**_SD, "text_encoder_2": ("CLIPTextModelWithProjection",), "tokenizer_2": _TOKENIZERS}
_FLUX = {
    "transformer": ("FluxTransformer2DModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": _TOKENIZERS,
    "text_encoder_2": ("T5EncoderModel",),
    "tokenizer_2": ("T5Tokenizer", "T5TokenizerFast"),
}
_SD3 = {
    "transformer": ("SD3Transformer2DModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModelWithProjection",),
    "tokenizer": _TOKENIZERS,
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer_2": _TOKENIZERS,
    "text_encoder_3": ("T5EncoderModel",),
    "tokenizer_3": ("T5Tokenizer", "T5TokenizerFast"),
}
_QWEN = {
    "text_encoder": ("Qwen3ForCausalLM", "Qwen3Model"),
    "tokenizer": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
}
_METHODS = ("bounded", "bounded-words", "attention", "multidiffusion", "words", "caption")
_OF_TRANSFORMERS = ("bounded", "bounded-words", "isolated", "multidiffusion", "words", "caption")
_ON_TRANSFORMERS = frozenset({"background", "edit", *(f"phrase, method {method}" for method in _OF_TRANSFORMERS)})
_WITH_TEXT = frozenset({"background", "edit", *(f"phrase, method {method}" for method in _METHODS)})


def _stable_diffusion(name: str, title: str, side: int, **own: Any) -> Family:
    """A family of a UNet that CLIP's text conditions. side: of its usual square image, in pixels."""
    common: dict[str, Any] = {
        "members": _SD,
        "spec": NetSpec.from_unet,
        "denoiser": UNetDenoiser,
        "text": ClipTextEncoder,
        "schedule": Schedule.from_config,
        "native": Native(width=side, height=side, steps=20, guidance=7.5, sampler="dpmpp-2m", method="bounded"),
        "supports": _WITH_TEXT,
        "takes_add_ons": True,
    }
    return Family(name=name, title=title, **common | own)


def _flux(name: str, title: str, guidance: float, **own: Any) -> Family:
    """A family of FLUX.1's transformer and text encoders."""
    common: dict[str, Any] = {
        "members": _FLUX,
        "spec": flux_spec,
        "denoiser": FluxDenoiser,
        "text": FluxTextEncoder,
        "schedule": partial(FlowSchedule.from_config, evenly="steps"),
        "native": Native(width=1024, height=1024, steps=28, guidance=guidance, sampler="euler", method="isolated"),
        # It was trained at areas of 0.1 to 2 megapixels.
        "reach": 2.0,
        "supports": _ON_TRANSFORMERS,
    }
    return Family(name=name, title=title, **common | own)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _stable_diffusion("builtin", "built-in family", 128, reach=1.25),
        _stable_diffusion("sd1", "Stable Diffusion 1.x", 512),
        _stable_diffusion("sd2", "Stable Diffusion 2.x", 768),
        # It was trained at many sizes.
        _stable_diffusion("sdxl", "Stable Diffusion XL", 1024, members=_XL, takes_size=True, reach=1.75),
        _stable_diffusion(
            "pbe",
            "Paint by Example",
            512,
            members={**_UNET, "image_encoder": ("PaintByExampleImageEncoder",)},
            text=NoText,
            native=Native(width=512, height=512, steps=20, guidance=5.0, sampler="dpmpp-2m", method="caption"),
            supports=frozenset({"exemplar", "background"}),
            takes_add_ons=False,
        ),
        # Of dev; the values of schnell and Fill come with their parts.
        _flux("flux", "FLUX.1", guidance=3.5),
        _flux(
            "kontext",
            "FLUX.1 Kontext",
            guidance=2.5,
            spec=partial(flux_spec, reference_sizes=KONTEXT_SIZES),
            supports=_ON_TRANSFORMERS | {"exemplar"},
        ),
        Family(
            name="sd3",
            title="Stable Diffusion 3",
            members=_SD3,
            spec=sd3_spec,
            denoiser=Sd3Denoiser,
            text=Sd3TextEncoder,
            schedule=FlowSchedule.from_config,
            # Of Stable Diffusion 3; the values of 3.5 come with its parts.
            native=Native(width=1024, height=1024, steps=28, guidance=7.0, sampler="euler", method="isolated"),
            supports=_ON_TRANSFORMERS,
        ),
        Family(
            name="flux2",
            title="FLUX.2 klein",
            members={"transformer": ("Flux2Transformer2DModel",), "vae": ("AutoencoderKLFlux2",), **_QWEN},
            spec=flux2_spec,
            denoiser=Flux2Denoiser,
            text=partial(QwenTextEncoder, reading=FLUX2),
            schedule=partial(FlowSchedule.from_config, evenly="steps", measured="tokens and steps"),
            # Of base; the distilled model's own values come with its parts.
            native=Native(width=1024, height=1024, steps=50, guidance=4.0, sampler="euler", method="isolated"),
            reach=2.0,
            supports=_ON_TRANSFORMERS | {"exemplar"},
        ),
        Family(
            name="zimage",
            title="Z-Image",
            members={"transformer": ("ZImageTransformer2DModel",), "vae": ("AutoencoderKL",), **_QWEN},
            spec=zimage_spec,
            denoiser=ZImageDenoiser,
            text=partial(QwenTextEncoder, reading=ZIMAGE),
            schedule=partial(FlowSchedule.from_config, evenly="steps"),
            # Of Z-Image, whose pipeline counts guidance from 0; Turbo's own values come with its parts.
            native=Native(width=1024, height=1024, steps=50, guidance=5.0, sampler="euler", method="isolated"),
            reach=2.0,
            supports=_ON_TRANSFORMERS,
        ),
    )
}
"""By name, in the order of the tables."""


def family_of(unet: Mapping[str, Any]) -> str:
    """The name of the family of a UNet's configuration: Stable Diffusion 1.x, 2.x or XL."""
    if unet.get("addition_embed_type") == "text_time":
        return "sdxl"
    return "sd2" if unet.get("use_linear_projection") else "sd1"
