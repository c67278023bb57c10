"""Why a model's networks return NaN or infinity: non-finite weights, or overflow of the dtype."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from cloisonne.core.finite import first_not_finite
from cloisonne.errors import NotFiniteError
from cloisonne.models.model import Model


@contextmanager
def explained(model: Model) -> Iterator[None]:
    """Add the cause to a NotFiniteError: the non-finite weights, or the dtype to load instead."""
    try:
        yield
    except NotFiniteError as error:
        if error.explained:
            raise
        raise NotFiniteError(f"{str(error).removesuffix('.')}: {_cause(model)}.", explained=True) from error


SOUND = "load a sound file"


def _cause(model: Model) -> str:
    for what, tensors in _weights(model):
        if (found := first_not_finite(tensors)) is not None:
            return f'the weights of {what} hold some ("{found}"); {SOUND}'
    added = [what for what, _ in _weights(model)][len(_own(model)) :]
    without = f", and try without {', '.join(added)}" if added else ""
    if model.dtype == torch.float16:
        return f"a network overflows float16, which ends at 65504; load the model in bfloat16 or float32{without}"
    if model.dtype == torch.bfloat16:
        return f"a network overflows in bfloat16; load the model in float32{without}"
    return f"the weights are finite, but the networks' outputs are not; load other weights{without}"


def _weights(model: Model) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """The tensors of each network and of each add-on, by its name in a message."""
    yield from _own(model)
    for kind, adapter in model.adapters.items():
        yield f'the adapter "{kind}"', adapter.module.state_dict()
    for kind, net in model.controlnets.items():
        yield f'the ControlNet "{kind}"', net.module.state_dict()
    if model.fuser is not None:
        yield "the CoAdapter's fuser", model.fuser.tensors
    if model.ip_adapter is not None:
        layers = model.ip_adapter.layers.items()
        weights = {f"{layer}.{k}": weight for layer, pair in layers for k, weight in enumerate(pair)}
        own = model.ip_adapter.projection.state_dict() | model.ip_adapter.vision.state_dict()
        yield "the IP-Adapter", weights | own
    if model.exemplar is not None and model.exemplar.net is not model.net:
        modules = (*model.exemplar.net.modules, model.exemplar.encoder)
        yield "Paint by Example", {name: t for module in modules for name, t in module.state_dict().items()}
    for name, lora in model.net.loras.items():
        added = ((layer, key, t) for layer, change in lora.layers.items() for key, t in vars(change).items())
        yield f'the LoRA "{name}"', {f"{layer}.{key}": t for layer, key, t in added if isinstance(t, Tensor)}


def _own(model: Model) -> list[tuple[str, Mapping[str, Tensor]]]:
    """The networks of the checkpoint itself."""
    fused = sum(option.startswith("lora ") for option in model.options)
    into = f", into which {fused} LoRA{'s are' if fused > 1 else ' is'} fused," if fused else ""
    texts = (("the text encoder" + into, module.state_dict()) for module in model.text.modules)
    nets = (("the denoiser" + into, module.state_dict()) for module in model.net.modules)
    return [*nets, *texts]
