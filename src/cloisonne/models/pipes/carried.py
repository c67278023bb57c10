"""What a pipeline object carries besides its weights: honoured, or refused by name.

Layers of PEFT, FreeU, tiling and learned words act in the copies as in the pipeline. Fused projections keep the
layers that they were fused from, which the model uses.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from cloisonne.errors import CapabilityError

PLAIN = frozenset(
    {
        *("AttnProcessor", "AttnProcessor2_0", "FusedAttnProcessor2_0", "SlicedAttnProcessor", "XFormersAttnProcessor"),
        *("JointAttnProcessor2_0", "FusedJointAttnProcessor2_0", "XFormersJointAttnProcessor"),
        *("FluxAttnProcessor", "Flux2AttnProcessor", "Flux2ParallelSelfAttnProcessor", "ZSingleStreamAttnProcessor"),
    }
)
"""diffusers' attention processors that compute attention and nothing else; the model has its own in their place."""


def check_carried(pipe: str, network: str, modules: Mapping[str, nn.Module]) -> None:
    """Refuse what would be lost or would act on the pipeline's own networks.

    Args:
        pipe: the pipeline's class, for messages.
        network: the name of the denoising network.
        modules: the pipeline's networks by name.

    Raises:
        CapabilityError: names what is carried, where, and what to call.
    """
    for name, module in modules.items():
        where = f"The {name} of the {pipe}"
        if getattr(module, "is_quantized", False) or getattr(module, "hf_quantizer", None) is not None:
            raise CapabilityError(f"{where} is quantized, which is not supported; load it in float16 or bfloat16.")
        for layer in module.modules():
            if hasattr(layer, "_hf_hook"):
                raise CapabilityError(
                    f"{where} is moved between devices by accelerate's hooks, which belong to the pipeline; call "
                    "pipe.remove_all_hooks() and pipe.to(device), or load its folder with offload=True."
                )
            if hooks := list(getattr(getattr(layer, "_diffusers_hook", None), "hooks", {})):
                raise CapabilityError(
                    f'{where} has diffusers\' hook "{hooks[0]}", which belongs to the pipeline; disable it (offloading '
                    "by groups, layerwise casting or a cache) before."
                )
    _check_processors(pipe, network, modules[network])


def _check_processors(pipe: str, network: str, module: Any) -> None:
    if any(getattr(module, name, None) is not None for name in ("encoder_hid_proj", "image_proj")):
        raise CapabilityError(
            f"The {pipe} carries an IP-Adapter, which applies to the whole image there; call pipe.unload_ip_adapter(), "
            "and give its file to with_exemplar of the model, for regions."
        )
    for layer, own in module.named_modules():
        kind = type(getattr(own, "processor", None))
        if kind is type(None):
            continue
        if kind.__name__ not in PLAIN or not kind.__module__.startswith("diffusers."):
            raise CapabilityError(
                f'The {network} of the {pipe} has the attention processor {kind.__name__} at "{layer}", whose effect '
                f"would be lost; call pipe.{network}.set_default_attn_processor(), or load the pipeline without it."
            )


def described(modules: Mapping[str, nn.Module]) -> Iterator[str]:
    """What the networks' tensors do not hold, one line each, for a model's hash: layers of PEFT, FreeU, tiling."""
    for name, module in modules.items():
        state = [f"{layer} {found}" for layer, own in module.named_modules() if (found := _state(own))]
        if state:
            yield f"{name} {hashlib.sha256(chr(10).join(state).encode()).hexdigest()}"


def _state(layer: nn.Module) -> str:
    names = ("active_adapters", "disable_adapters", "merged_adapters", "scaling", "s1", "s2", "b1", "b2", "use_tiling")
    found = {name: getattr(layer, name, None) for name in names}
    return " ".join(f"{name}={value}" for name, value in found.items() if value not in (None, [], False))


def adapters(modules: Mapping[str, nn.Module]) -> list[str]:
    """The names of the PEFT adapters that are in use."""
    found = dict.fromkeys(
        adapter
        for module in modules.values()
        for layer in module.modules()
        if hasattr(layer, "base_layer") and not getattr(layer, "disable_adapters", False)
        for adapter in getattr(layer, "active_adapters", ())
    )
    return list(found)
