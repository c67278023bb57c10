"""Read a GGUF file: tensors in blocks of few bits, as llama.cpp and ComfyUI-GGUF write them. Needs the extra "gguf"."""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.files import read
from cloisonne.models.quantized.layers import Stored

SUFFIX = ".gguf"
SHAPE = "comfy.gguf.orig_shape."
"""Prefix of the entries with the shapes of tensors that were stored in another one."""


@dataclass(frozen=True)
class Blocks:
    """Numbers in blocks of GGUF. name: of their kind. number: the kind's, in GGUF."""

    name: str
    number: int

    def columns(self, width: int) -> int:
        """The numbers in ``width`` bytes of whole blocks."""
        size, stored = self._sizes()
        return width // stored * size

    def numbers(self, data: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows columns"]:
        """The numbers, float32, by the formulas of diffusers."""
        size, stored = self._sizes()
        # torch reads numbers of two bytes at even addresses only.
        blocks = data.reshape(-1, stored).clone()
        return _formulas()[self.number](blocks, size, stored, torch.float32).reshape(len(data), -1)

    def _sizes(self) -> tuple[int, int]:
        gguf: Any = import_module("gguf")
        size, stored = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(self.number)]
        return size, stored


def read_gguf(file: Path) -> dict[str, Tensor | Stored]:
    """The tensors of a file, by name; those in blocks as they are stored.

    Raises CheckpointError without the package gguf, for a damaged file, and for kinds of blocks that torch does not
    compute, by name.
    """
    if find_spec("gguf") is None:
        raise CheckpointError(f'"{file}" is a GGUF file, which needs the package gguf: pip install "cloisonne[gguf]".')
    return read(file, _tensors)


def _tensors(file: Path) -> dict[str, Tensor | Stored]:
    gguf: Any = import_module("gguf")
    reader, formulas = gguf.GGUFReader(file), _formulas()
    names = {int(kind.value): str(kind.name) for kind in gguf.GGMLQuantizationType}
    found: dict[str, Tensor | Stored] = {}
    for tensor in reader.tensors:
        number = int(tensor.tensor_type)
        name = names[number]
        data = torch.from_numpy(tensor.data.copy())
        if name in ("F32", "F16", "F64"):
            shape = reader.get_field(f"{SHAPE}{tensor.name}")
            found[tensor.name] = data if shape is None else data.reshape([int(shape.parts[i][0]) for i in shape.data])
        elif name == "BF16":
            found[tensor.name] = data.view(torch.bfloat16)
        elif number in formulas and data.ndim == 2:
            found[tensor.name] = Stored(data, Blocks(name, number))
        else:
            known = ", ".join(sorted(names[own] for own in formulas))
            raise CheckpointError(
                f'"{file}" stores "{tensor.name}" as {name}, which is not supported; load a file of one of {known}.'
            )
    return found


def _formulas() -> dict[int, Any]:
    from diffusers.quantizers.gguf.utils import dequantize_functions

    return {int(kind.value): formula for kind, formula in dequantize_functions.items()}
