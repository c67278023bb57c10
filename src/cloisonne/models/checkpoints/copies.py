"""Copies of networks that share their tensors, so that a model can change without another one changing."""

import copy
from collections import OrderedDict
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from cloisonne.models.checkpoints.parts import Parts, TextPart

Module = TypeVar("Module", bound=nn.Module)


def sharing_tensors(module: Module) -> Module:
    """A copy with modules and a configuration of its own, and the same parameters and buffers.

    To change a weight of the copy, give its layer another parameter; writing into a parameter changes both. What wraps
    the ``forward`` of a module is left out: it calls the module's own layers.
    """
    return _shared(module, {})


def _shared(module: Module, made: dict[int, Any]) -> Module:
    """made: the copies of modules and configurations so far, by the originals' ids."""
    if id(module) in made:
        return made[id(module)]
    copied = made[id(module)] = object.__new__(type(module))
    own = {name: _own(value) for name, value in vars(module).items() if name != "forward"}
    own["_modules"] = {name: None if child is None else _shared(child, made) for name, child in module._modules.items()}
    if (config := own.get("config")) is not None:
        own["config"] = made.setdefault(id(config), copy.deepcopy(config))
    vars(copied).update(own)
    return copied


def _own(value: Any) -> Any:
    """A copy of a container of hooks or tensors; anything else itself."""
    return value.copy() if type(value) in (dict, OrderedDict, set) else value


def copied_networks(parts: Parts) -> Parts:
    """The parts with networks that share their tensors; the tokenizers are the same."""
    texts = tuple(replace(text, module=sharing_tensors(text.module)) for text in parts.texts)
    return replace(parts, network=sharing_tensors(parts.network), vae=sharing_tensors(parts.vae), texts=texts)


def copied(parts: Parts) -> Parts:
    """:func:`copied_networks`, with tokenizers that can take further words."""

    def own(text: TextPart) -> TextPart:
        return replace(text, tokenizer=copy.deepcopy(text.tokenizer))

    networks = copied_networks(parts)
    return replace(networks, texts=tuple(map(own, networks.texts)))
