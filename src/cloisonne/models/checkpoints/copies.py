"""Copies of networks that share their tensors, so that a model can change without another one changing."""

import copy
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from torch import nn

from cloisonne.models.checkpoints.parts import Parts, TextPart

Module = TypeVar("Module", bound=nn.Module)


def sharing_tensors(module: Module) -> Module:
    """A copy with modules and a configuration of its own, and the same parameters and buffers.

    To change a weight of the copy, give its layer another parameter; writing into a parameter changes both.
    """
    tensors = chain(module.parameters(), module.buffers())
    return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})


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
