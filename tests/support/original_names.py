"""A transformer's tensors by the names of its original repository."""

import torch
from torch import Tensor

from cloisonne.models.checkpoints.mmdit.original_names import originals_of
from cloisonne.models.model import Model


def original(model: Model) -> dict[str, Tensor]:
    """The tensors of a model's transformer by their original names; others than those of diffusers are joined."""
    left, found = dict(model.net.modules[0].state_dict()), {}
    for own in originals_of(model.family, model.net.modules[0].config):
        for end in ("weight", "bias"):
            names = [name for layer in own.layers if (name := f"{layer}.{end}") in left]
            if names:
                tensor = torch.cat([left.pop(name) for name in names])
                tensor = torch.cat(tensor.chunk(2)[::-1]) if own.swapped else tensor
                found[f"{own.name}.{'scale' if own.name.endswith(('query_norm', 'key_norm')) else end}"] = tensor
    if model.family == "sd3":
        left["pos_embed"] = left.pop("pos_embed.pos_embed")
    return found | left
