"""Weights that bitsandbytes has quantised, as its layers are saved: nf4 and fp4 in blocks, int8 by rows.

The numbers are bitsandbytes' own; its package is not needed. Layers of int8 do not round their inputs to int8.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.quantized.layers import Stored

METHOD = "bitsandbytes"
KINDS = ("nf4", "fp4")
_STATE = ".quant_state.bitsandbytes__"
_OF_WEIGHT = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")
"""Ends of the names of what belongs to a weight in 4 bits."""
_OF_LAYER = (".SCB", ".weight_format")
"""The same of a layer in int8: the scales of its rows, and the order of its numbers."""
SCALE = 4
"""Bytes of a block's scale, float32, before its codes."""
LARGEST = 127
"""The largest number of int8 here."""


@dataclass(frozen=True)
class Codes:
    """Numbers in 4 bits, two to a byte, in blocks that have a scale each. numbers_of: those of the 16 codes."""

    name: str
    numbers_of: tuple[float, ...]
    block: int

    def columns(self, width: int) -> int:
        """The numbers in ``width`` bytes of whole blocks."""
        return width // self._bytes * self.block

    def numbers(self, data: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows columns"]:
        """The numbers as float32."""
        blocks = data.reshape(-1, self._bytes)
        scales = blocks[:, :SCALE].contiguous().view(torch.float32)
        own = torch.tensor(self.numbers_of, device=data.device)
        pairs = torch.stack([own.repeat_interleave(len(own)), own.repeat(len(own))], -1)
        return (pairs[blocks[:, SCALE:].int()].flatten(1) * scales).reshape(len(data), -1)

    @property
    def _bytes(self) -> int:
        return SCALE + self.block // 2


@dataclass(frozen=True)
class Int8:
    """Numbers in int8."""

    name: str = "int8"

    def columns(self, width: int) -> int:
        """One a byte."""
        return width

    def numbers(self, data: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows columns"]:
        """The numbers as float32."""
        return data.view(torch.int8).float()


def with_codes(tensors: Mapping[str, Tensor], header: Mapping[str, str], source: object) -> dict[str, Tensor | Stored]:
    """The tensors, by name, with quantised weights as they are stored. header: unused. source: for messages.

    Raises CheckpointError for other kinds of codes.
    """
    found: dict[str, Tensor | Stored] = {}
    states = {name.rpartition(_STATE)[0]: name for name in tensors if _STATE in name}
    for name, tensor in tensors.items():
        layer = name.removesuffix(".weight")
        if name in states:
            found[name] = _in_4_bits(name, states[name], tensors, source)
        elif f"{layer}.SCB" in tensors and name != layer:
            form = tensors.get(f"{layer}.weight_format")
            if form is not None and int(form) != 0:
                raise CheckpointError(
                    f'"{source}" stores "{name}" in the order of columns of an older GPU; save it again by a newer '
                    "bitsandbytes."
                )
            scale = tensors[f"{layer}.SCB"].float() / LARGEST
            found[name] = Stored(tensor.contiguous().view(torch.uint8), Int8(), scale)
        elif _STATE not in name and not name.endswith((*_OF_WEIGHT, *_OF_LAYER)):
            found[name] = tensor
    return found


def _in_4_bits(name: str, state: str, tensors: Mapping[str, Tensor], source: object) -> Tensor | Stored:
    """A weight; where its rows are not whole blocks, its numbers, float32."""
    kind = state.rpartition(_STATE)[2]
    if kind not in KINDS:
        raise CheckpointError(
            f'"{source}" stores "{name}" as {kind}, which is not supported; supported are {" and ".join(KINDS)}.'
        )
    given: dict[str, Any] = json.loads(bytes(tensors[state].tolist()))
    block, shape = int(given["blocksize"]), tuple(given["shape"])
    scales = tensors[f"{name}.absmax"]
    if (means := tensors.get(f"{name}.nested_absmax")) is not None:
        # The scales are quantised, too.
        each = means.float().repeat_interleave(int(given["nested_blocksize"]))[: len(scales)]
        scales = tensors[f"{name}.nested_quant_map"].float()[scales.int()] * each + float(given["nested_offset"])
    form = Codes(kind, tuple(tensors[f"{name}.quant_map"].tolist()), block)
    codes = tensors[name].contiguous().flatten().view(torch.uint8)
    missing = len(scales) * block // 2 - len(codes)
    codes = torch.nn.functional.pad(codes, (0, missing)).reshape(len(scales), -1)
    stored = torch.cat([scales.float()[:, None].contiguous().view(torch.uint8), codes], 1)
    if len(shape) == 2 and shape[1] % block == 0:
        return Stored(stored.reshape(shape[0], -1), form)
    count = torch.Size(shape).numel()
    return form.numbers(stored).flatten()[:count].reshape(shape)
