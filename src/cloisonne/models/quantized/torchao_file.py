"""Weights that torchao has quantised to int8 or float8, as diffusers and transformers save them: scales by rows.

The package is not needed. Layers do not round their inputs, also where torchao's would.
"""

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.quantized.bitsandbytes_file import Int8
from cloisonne.models.quantized.layers import Float8, Stored

METHOD = "torchao"
KINDS = ("Int8Tensor", "Float8Tensor")
PARTS = ("qdata", "scale", "zero_point")


def with_parts(tensors: Mapping[str, Tensor], header: Mapping[str, str], source: object) -> dict[str, Tensor | Stored]:
    """The tensors, by name, with quantised weights as they are stored.

    header: of the file; it names the weights that stand in several tensors. source: for messages. Raises
    CheckpointError for other kinds of weights, and for scales other than of rows.
    """
    left, found = dict(tensors), dict[str, Tensor | Stored]()
    for name, kind in _kinds(header).items():
        if kind == "Tensor":
            continue
        layer, _, end = name.rpartition(".")
        start = f"{layer}._{end}_"
        parts = {own.removeprefix(start): left.pop(own) for own in list(left) if own.startswith(start)}
        if not parts:
            continue  # of another shard
        found[name] = _stored(name, kind, parts, source)
    return left | found


def _kinds(header: Mapping[str, str]) -> dict[str, str]:
    """The kind of each weight that a header lists."""
    listed = json.loads(header.get("tensor_names", "[]"))
    entries = {name: json.loads(header[name]) for name in listed if name in header}
    return {name: str(entry.get("_type")) for name, entry in entries.items()}


def _stored(name: str, kind: str, parts: Mapping[str, Tensor], source: object) -> Stored:
    if not _is_known(kind, parts):
        raise CheckpointError(
            f'"{source}" stores "{name}" as {kind} of {", ".join(parts)}, which is not supported; supported are '
            "weights in int8 or float8 with one scale a layer or row, around zero."
        )
    data, scale = parts["qdata"], parts["scale"]
    form = Int8() if data.dtype == torch.int8 else Float8(str(data.dtype).removeprefix("torch."))
    return Stored(data.contiguous().view(torch.uint8), form, scale.float().flatten().expand(len(data)).clone())


def _is_known(kind: str, parts: Mapping[str, Tensor]) -> bool:
    if kind not in KINDS or not {"qdata", "scale"} <= set(parts) <= set(PARTS):
        return False
    data, scale, zero = parts["qdata"], parts["scale"], parts.get("zero_point")
    return data.ndim == 2 and scale.numel() in (1, len(data)) and (zero is None or not bool(zero.any()))
