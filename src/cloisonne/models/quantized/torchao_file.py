"""Weights that torchao has quantised to int8, int4 or float8, as diffusers and transformers save them.

The package is not needed. Layers do not round their inputs, also where torchao's would.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.quantized.bitsandbytes_file import Int8
from cloisonne.models.quantized.layers import Float8, Stored

METHOD = "torchao"
INTEGERS = {"Int8Tensor": 8, "IntxUnpackedToInt8Tensor": 8, "Int4Tensor": 4}
"""Kinds of integers, and the bits that one takes in a file."""
HEAD = 8
"""Bytes of a group's scale and zero point, float32, before its codes."""


@dataclass(frozen=True)
class Groups:
    """Integers in groups of a row, of which each has a scale and a zero point.

    bits: 4, two to a byte, the first in its lower half, or 8. size: numbers of a group. zero: what the zero point is
    of: a code c is the number ``(c - zero) * scale``, or ``c * scale + zero``.
    """

    bits: int
    size: int
    zero: Literal["codes", "numbers"]

    @property
    def name(self) -> str:
        """Bits and size."""
        return f"int{self.bits} in groups of {self.size}"

    def columns(self, width: int) -> int:
        """The numbers in ``width`` bytes of whole groups."""
        return width // (HEAD + self.size * self.bits // 8) * self.size

    def numbers(self, data: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows columns"]:
        """The numbers as float32."""
        groups = data.reshape(-1, HEAD + self.size * self.bits // 8)
        scale, zero = groups[:, :HEAD].contiguous().view(torch.float32).split(1, 1)
        codes = groups[:, HEAD:].contiguous().view(torch.int8)
        if self.bits == 4:
            codes = torch.stack([codes << 4 >> 4, codes >> 4], -1).flatten(1)
        found = (codes - zero) * scale if self.zero == "codes" else codes * scale + zero
        return found.reshape(len(data), -1)


def with_parts(tensors: Mapping[str, Tensor], header: Mapping[str, str], source: object) -> dict[str, Tensor | Stored]:
    """The tensors, by name, with quantised weights as they are stored.

    header: of the files; it names the weights that stand in several tensors. source: for messages. Raises
    CheckpointError for other kinds of weights, and for scales other than of rows or groups.
    """
    left, found = dict(tensors), dict[str, Tensor | Stored]()
    for name, kind in _kinds(header).items():
        if kind == "Tensor":
            continue
        layer, _, end = name.rpartition(".")
        start = f"{layer}._{end}_"
        parts = {own.removeprefix(start): left.pop(own) for own in list(left) if own.startswith(start)}
        if not parts:
            continue  # which is missing
        found[name] = _stored(name, kind, parts, source)
    return left | found


def _kinds(header: Mapping[str, str]) -> dict[str, str]:
    """The kind of each weight that a header lists."""
    listed = json.loads(header.get("tensor_names", "[]"))
    entries = {name: json.loads(header[name]) for name in listed if name in header}
    return {name: str(entry.get("_type")) for name, entry in entries.items()}


def _stored(name: str, kind: str, parts: Mapping[str, Tensor], source: object) -> Stored:
    whole = parts.keys() <= {"qdata", "scale", "zero_point"} and {"qdata", "scale"} <= parts.keys()
    found = None
    if whole and kind in INTEGERS:
        found = _integers(kind, parts["qdata"], parts["scale"], parts.get("zero_point"))
    elif whole and kind == "Float8Tensor":
        found = _in_float8(parts["qdata"], parts["scale"], parts.get("zero_point"))
    if found is None:
        raise CheckpointError(
            f'"{source}" stores "{name}" as {kind} of {", ".join(parts)}, which is not supported; quantise it again '
            "to float8 with one scale a layer or row, or to int8 or int4 (plain, or unpacked to int8) with scales of "
            "layers, rows or groups."
        )
    return found


def _in_float8(data: Tensor, scale: Tensor, zero: Tensor | None) -> Stored | None:
    if data.ndim != 2 or scale.numel() not in (1, len(data)) or zero is not None:
        return None
    form = Float8(str(data.dtype).removeprefix("torch."))
    return Stored(data.contiguous().view(torch.uint8), form, scale.float().flatten().expand(len(data)).clone())


def _integers(kind: str, data: Tensor, scale: Tensor, zero: Tensor | None) -> Stored | None:
    """A weight in integers; None where its scales are not those of whole groups of its rows."""
    bits = INTEGERS[kind]
    if data.ndim != 2 or data.dtype not in (torch.int8, torch.uint8):
        return None
    zero = torch.zeros_like(scale) if zero is None else zero
    if scale.numel() == 1:
        scale, zero = (own.reshape(1, 1).expand(len(data), 1) for own in (scale, zero))
    # Of plain int4, groups come first.
    scale, zero = (own.float().T if bits == 4 else own.float() for own in (scale, zero))
    columns = data.shape[1] * 8 // bits
    if scale.ndim != 2 or len(scale) != len(data) or columns % scale.shape[1] or scale.shape != zero.shape:
        return None
    codes = data.contiguous().view(torch.uint8)
    if bits == 8 and scale.shape[1] == 1 and not bool(zero.any()):
        return Stored(codes, Int8(), scale.flatten().clone())
    form = Groups(bits, columns // scale.shape[1], "codes" if bits == 8 else "numbers")
    heads = torch.stack([scale, zero], -1).contiguous().view(torch.uint8)
    return Stored(torch.cat([heads, codes.reshape(*scale.shape, -1)], -1).flatten(1), form)
