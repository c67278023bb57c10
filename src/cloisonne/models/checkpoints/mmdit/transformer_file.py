"""Read the transformer of one file, by diffusers' names or the original ones: safetensors, plain or scaled, or GGUF."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.ldm.fill import filled
from cloisonne.models.checkpoints.mmdit.shapes import converted
from cloisonne.models.checkpoints.tensor_file import TensorFile, listed
from cloisonne.models.quantized.gguf_file import SUFFIX, read_gguf
from cloisonne.models.quantized.layers import QuantizedLinear, Stored, replace_layer
from cloisonne.models.quantized.scaled_float8 import with_scales

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
"""Of the transformer's tensors in files of several networks."""
UNUSED = ("norm_final.weight",)
"""Tensors that no network reads: of Z-Image."""


def read_transformer(kind: Any, config: Mapping[str, Any], file: Path, family: str, dtype: torch.dtype) -> Any:
    """The transformer of a file. kind: its class. config: of that class, of the folder that the file is loaded with.

    Quantised weights stay as they are stored, and their layers compute in ``dtype``. Raises CheckpointError where a
    tensor is missing, unknown or misshapen, or is stored in a form that is not supported.
    """
    tensors = _own(file)
    with torch.device("meta"):
        network = kind.from_config(dict(config))
    named = converted(family, tensors, network)
    wanted = network.state_dict().keys()
    if 2 * len(named.keys() & wanted) < len(wanted):
        raise CheckpointError(
            f'"{file}" holds no transformer of this model: its tensors are {listed(tensors)}; load one of {family}.'
        )
    return with_stored(network, named, file, dtype)


def with_stored(
    network: Any,
    tensors: Mapping[str, Tensor | Stored],
    source: Path,
    dtype: torch.dtype,
    what: str = "the transformer",
) -> Any:
    """Load exactly these tensors into a network, whose layers with stored weights become quantised.

    what: the network, or the prefix of its tensors, for messages.
    """
    layers = {name.removesuffix(".weight"): own for name, own in tensors.items() if isinstance(own, Stored)}
    plain = {name: own.to(dtype) for name, own in tensors.items() if isinstance(own, Tensor)}
    for name, stored in layers.items():
        layer = network.get_submodule(name) if name in dict(network.named_modules()) else None
        if not isinstance(layer, nn.Linear):
            # What is no matrix of a layer is small.
            plain[f"{name}.weight" if f"{name}.weight" in tensors else name] = stored.numbers(dtype)
            continue
        if stored.shape != layer.weight.shape:
            raise CheckpointError(
                f'"{source}" has "{name}.weight" of shape {list(stored.shape)}, not {list(layer.weight.shape)}; load '
                f"{what} of this model."
            )
        bias = None if layer.bias is None else torch.empty_like(layer.bias, device="meta")
        replace_layer(network, name, QuantizedLinear(stored, bias, dtype))
        plain |= {
            f"{name}.{key}": own for key, own in network.get_submodule(name).state_dict().items() if key != "bias"
        }
    return filled(network, plain, len(plain), source, what)


def _own(file: Path) -> dict[str, Tensor | Stored]:
    """The transformer's tensors in a file, without the prefix of their names."""
    if file.suffix == SUFFIX:
        tensors = read_gguf(file)
    else:
        opened = TensorFile.open(file)
        tensors = with_scales({name: opened.take(name) for name in opened.keys}, file)
    prefix = next((own for own in PREFIXES if any(name.startswith(own) for name in tensors)), "")
    found = {name.removeprefix(prefix): own for name, own in tensors.items() if name.startswith(prefix)}
    return {name: own for name, own in found.items() if name not in UNUSED}
