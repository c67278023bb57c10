"""Read networks of a pipeline folder that bitsandbytes or torchao has quantised; their weights stay as stored."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.files import weight_files
from cloisonne.models.checkpoints.mmdit.transformer_file import with_stored
from cloisonne.models.checkpoints.network_config import refuse_quantised
from cloisonne.models.checkpoints.tensor_file import TensorFile
from cloisonne.models.mapped import without_random_values
from cloisonne.models.quantized import bitsandbytes_file, torchao_file
from cloisonne.models.quantized.layers import Stored

KEY = "quantization_config"
READERS: Mapping[str, Callable[[Mapping[str, Tensor], Mapping[str, str], object], dict[str, Tensor | Stored]]] = {
    bitsandbytes_file.METHOD: bitsandbytes_file.with_codes,
    torchao_file.METHOD: torchao_file.with_parts,
}
"""By the ``quant_method`` of a configuration."""
TIED = {"lm_head.weight": "model.embed_tokens.weight", "encoder.embed_tokens.weight": "shared.weight"}
"""Tensors of language models that files leave out, and those that they equal."""


def method_of(file: Path, config: Mapping[str, Any]) -> str | None:
    """What has quantised the network of a ``config.json``; None for full weights.

    Raises CheckpointError for a method that is not supported.
    """
    found = config.get(KEY)
    if found is None:
        return None
    method = found.get("quant_method") if isinstance(found, Mapping) else None
    if method not in READERS:
        refuse_quantised(file, config)
    return method


def without_method(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what quantised the network."""
    return {key: value for key, value in config.items() if key != KEY}


def read_quantised(kind: Any, member: Path, config: Mapping[str, Any], variant: str | None, dtype: torch.dtype) -> Any:
    """The network of a member's folder, computed in ``dtype``.

    kind: its class in diffusers or transformers. config: its ``config.json``. variant: of its weights. Raises
    CheckpointError where a tensor is missing or unknown, or is stored in a form that is not supported.
    """
    stem = "model" if "encoder" in member.name else "diffusion_pytorch_model"
    read = READERS[config[KEY]["quant_method"]]
    parts, header = dict[str, Tensor](), dict[str, str]()
    for file in weight_files(member, stem, variant):
        # What belongs to a weight may be in several files.
        opened = TensorFile.open(file)
        parts |= opened.tensors
        header |= opened.header
    tensors = read(parts, header, member)
    if not any(isinstance(own, Stored) for own in tensors.values()):
        raise CheckpointError(
            f'"{member}" says in config.json that it is quantised, and no weight in it is; remove {KEY} there.'
        )
    own = without_method(config)
    if hasattr(kind, "from_config"):
        with torch.device("meta"):
            network = kind.from_config(own)
        return with_stored(network, tensors, member, dtype, member.name)
    with without_random_values():
        module = kind(kind.config_class.from_dict(own))
    return with_stored(module, _named(tensors, module), member, dtype, member.name)


def _named(tensors: Mapping[str, Tensor | Stored], module: Any) -> dict[str, Tensor | Stored]:
    """By the names of a module of transformers; those of files have a prefix or none, by what wrote them."""
    wanted = module.state_dict().keys()
    found = dict[str, Tensor | Stored]()
    for name, tensor in tensors.items():
        bare = name.removeprefix("text_model.").removeprefix("model.")
        forms = (name, bare, f"model.{bare}", f"text_model.{bare}")
        found[next((form for form in forms if form in wanted), name)] = tensor
    return found | {name: found[other] for name, other in TIED.items() if name in wanted - found.keys()}
