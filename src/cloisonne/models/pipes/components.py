"""The parts of a diffusers pipeline object: copies of its networks that share their tensors."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, Qwen3Config, T5Config, T5EncoderModel

from cloisonne.errors import CapabilityError
from cloisonne.models.checkpoints.mmdit import flux, flux2, sd3, zimage
from cloisonne.models.checkpoints.mmdit.flow_scheduler import checked_flow
from cloisonne.models.checkpoints.mmdit.members import truncated
from cloisonne.models.checkpoints.network_config import check_network, check_qwen3, check_t5, check_text, check_unet
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.checkpoints.scheduler_config import checked
from cloisonne.models.families import FAMILIES, family_of
from cloisonne.models.mmdit.zimage_network import JointZImage
from cloisonne.models.pipes.carried import adapters, check_carried, described
from cloisonne.models.text.qwen import FLUX2, ZIMAGE

_TASKS = ("", "Img2Img", "Inpaint")
PIPES: Mapping[str, str] = {
    **{f"StableDiffusion{task}Pipeline": "sd1" for task in _TASKS},
    **{f"StableDiffusionXL{task}Pipeline": "sdxl" for task in _TASKS},
    **{f"Flux{task}Pipeline": "flux" for task in _TASKS},
    **{f"StableDiffusion3{task}Pipeline": "sd3" for task in _TASKS},
    "Flux2KleinPipeline": "flux2",
    "ZImagePipeline": "zimage",
}
"""The family whose members a pipeline has, by its class. A class with further networks would lose them."""

OPTIONAL = ("text_encoder_3", "tokenizer_3")
"""Members that may be None: T5 of Stable Diffusion 3."""


def parts_of(pipe: Any) -> tuple[Parts, tuple[str, ...]]:
    """The parts of a pipeline, and what else determines its images, one line each.

    Raises CapabilityError for a pipeline or something in it that is not supported, CheckpointError for a configuration.
    """
    kind = type(pipe).__name__
    if kind not in PIPES:
        raise CapabilityError(
            f"The pipeline is a {kind}, which is not supported; supported are {', '.join(PIPES)}. A ControlNet is "
            "added to the model, by with_adapter."
        )
    members = _members(pipe, kind, PIPES[kind])
    networks = {name: member for name, member in members.items() if isinstance(member, nn.Module)}
    network = "unet" if "unet" in networks else "transformer"
    check_carried(kind, network, networks)
    _check_configs(kind, networks)
    own = members | {name: sharing_storage(module) for name, module in networks.items()}
    vae: Any = own["vae"]
    if vae.config.get("force_upcast") and vae.dtype == torch.float16:
        own["vae"] = vae.float()  # it overflows float16; diffusers casts it in each call
    parts = _BUILDERS[PIPES[kind]](pipe, own, _notes(pipe, kind, networks))
    return parts, (*described(networks), *_words(own))


def sharing_storage(module: nn.Module) -> Any:
    """A copy with modules, configuration and parameters of its own, whose values are the same memory.

    Other than in ``sharing_tensors``, moving or freezing the copy changes nothing of the module.
    """
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    memo |= {id(buffer): buffer for buffer in module.buffers()}
    return copy.deepcopy(module, memo).eval()


def _members(pipe: Any, kind: str, family: str) -> dict[str, Any]:
    found = {}
    for name, allowed in FAMILIES[family].members.items():
        member = getattr(pipe, name, None)
        member = getattr(member, "_orig_mod", member)  # what torch.compile was given
        if member is None and name in OPTIONAL:
            continue
        if type(member).__name__ not in allowed:
            named = "no" if member is None else f"a {type(member).__name__} as its"
            raise CapabilityError(f"The {kind} has {named} {name}; {allowed[0]} is needed.")
        found[name] = member
    return found


def _check_configs(kind: str, networks: Mapping[str, Any]) -> None:
    for name, module in networks.items():
        label = Path(f"{kind}.{name}")
        own = module.config
        config = own if isinstance(own, Mapping) else json.loads(own.to_json_string())  # as a file has it
        public = {key: value for key, value in config.items() if not key.startswith("_")}
        if not name.startswith("text_encoder"):
            check_network(label, public, type(module))
        elif isinstance(module, T5EncoderModel):
            check_t5(label, public, T5Config)
        elif "Qwen3" in type(module).__name__:
            check_qwen3(label, public, Qwen3Config)
        else:
            check_text(label, public, CLIPTextConfig)
        if isinstance(module, UNet2DConditionModel):
            check_unet(label, public)


def _notes(pipe: Any, kind: str, networks: Mapping[str, nn.Module]) -> tuple[str, ...]:
    notes = [f"The networks are those of a {kind} in this process."]
    if names := adapters(networks):
        notes.append(f"The pipeline's adapters are in use: {', '.join(names)}.")
    if getattr(pipe, "safety_checker", None) is not None:
        notes.append("The pipeline's safety checker is not run.")
    return tuple(notes)


def _words(members: Mapping[str, Any]) -> list[str]:
    """The words that were added to the tokenizers."""
    tokenizers = [tokenizer for name, tokenizer in members.items() if name.startswith("tokenizer")]
    return [f"token {word} {i}" for own in tokenizers for word, i in sorted(own.get_added_vocab().items())]


def _scheduler(pipe: Any, check: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    config = {key: value for key, value in pipe.scheduler.config.items() if not key.startswith("_")}
    return check(config, Path(f"{type(pipe).__name__}.scheduler"), type(pipe.scheduler).__name__)


def _texts(own: Mapping[str, Any]) -> list[TextPart]:
    numbers = [name.removeprefix("text_encoder") for name in own if name.startswith("text_encoder")]
    return [TextPart(own[f"text_encoder{number}"], copy.deepcopy(own[f"tokenizer{number}"])) for number in numbers]


def _of_unet(pipe: Any, own: Mapping[str, Any], notes: tuple[str, ...]) -> Parts:
    texts = _texts(own)
    return Parts(
        family=family_of(own["unet"].config),
        network=own["unet"],
        vae=own["vae"],
        texts=tuple(texts),
        scheduler=_scheduler(pipe, checked),
        zeros_for_empty=len(texts) > 1 and bool(pipe.config.get("force_zeros_for_empty_prompt", True)),
        notes=notes,
    )


def _of_transformer(pipe: Any, family: str, own: Mapping[str, Any], notes: tuple[str, ...], **more: Any) -> Parts:
    common: dict[str, Any] = {"texts": tuple(_texts(own))}
    return Parts(
        family=family,
        network=own["transformer"],
        vae=own["vae"],
        scheduler=_scheduler(pipe, checked_flow),
        notes=notes,
        **common | more,
    )


def _of_flux(pipe: Any, own: Mapping[str, Any], notes: tuple[str, ...]) -> Parts:
    texts = tuple(_texts(own))
    if own["transformer"].config["guidance_embeds"]:
        return _of_transformer(pipe, "flux", own, notes, texts=texts)
    tokenizer = texts[1].tokenizer
    tokenizer.model_max_length = min(tokenizer.model_max_length, flux.SCHNELL_LENGTH)
    return _of_transformer(pipe, "flux", own, notes, texts=texts, native=flux.SCHNELL)


def _of_sd3(pipe: Any, own: Mapping[str, Any], notes: tuple[str, ...]) -> Parts:
    config = own["transformer"].config
    options = {"width": int(config["joint_attention_dim"])}
    return _of_transformer(pipe, "sd3", own, notes, text_options=options, native=sd3.native_of(config))


def _of_flux2(pipe: Any, own: Mapping[str, Any], notes: tuple[str, ...]) -> Parts:
    native = flux2.DISTILLED if pipe.config.get("is_distilled") else None
    return _of_transformer(pipe, "flux2", own, notes, texts=(_qwen(pipe, own, FLUX2.layers),), native=native)


def _of_zimage(pipe: Any, own: Mapping[str, Any], notes: tuple[str, ...]) -> Parts:
    own["transformer"].__class__ = JointZImage  # of the same configuration and layers
    native = zimage.TURBO if pipe.scheduler.config.get("shift") == zimage.TURBO_SHIFT else None
    return _of_transformer(pipe, "zimage", own, notes, texts=(_qwen(pipe, own, ZIMAGE.layers),), native=native)


def _qwen(pipe: Any, own: Mapping[str, Any], layers: Any) -> TextPart:
    module = truncated(own["text_encoder"].base_model, layers, f"{type(pipe).__name__}.text_encoder")
    return TextPart(module, copy.deepcopy(own["tokenizer"]))


_BUILDERS: Mapping[str, Callable[[Any, Mapping[str, Any], tuple[str, ...]], Parts]] = {
    "sd1": _of_unet,
    "sdxl": _of_unet,
    "flux": _of_flux,
    "sd3": _of_sd3,
    "flux2": _of_flux2,
    "zimage": _of_zimage,
}
