"""Weights that stay as a file stores them, in blocks of few bits or in float8, until their layer runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn


class Form(Protocol):
    """How the bytes of a weight's rows are numbers."""

    @property
    def name(self) -> str:
        """Its name in files, such as "Q4_K"."""
        ...

    def columns(self, width: int) -> int:
        """The numbers in a row of ``width`` bytes."""
        ...

    def numbers(self, data: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows columns"]:
        """The numbers, float32, of rows of bytes; on their device."""
        ...


@dataclass(frozen=True)
class Float8:
    """Numbers in float8. name: "float8_e4m3fn" or "float8_e5m2"."""

    name: str

    def columns(self, width: int) -> int:
        """One a byte."""
        return width

    def numbers(self, data: UInt8[Tensor, "rows bytes"]) -> Float[Tensor, "rows columns"]:
        """The numbers as float32."""
        return data.view(getattr(torch, self.name)).float()


@dataclass(frozen=True, eq=False)
class Stored:
    """A weight as a file stores it. scale: float32, the factor of each row; None for 1."""

    data: UInt8[Tensor, "rows bytes"]
    form: Form
    scale: Float[Tensor, " rows"] | None = None

    def __len__(self) -> int:
        return len(self.data)

    @property
    def shape(self) -> torch.Size:
        """(rows, columns) of the numbers."""
        return torch.Size((len(self.data), self.form.columns(self.data.shape[1])))

    def split(self, rows: Sequence[int]) -> list["Stored"]:
        """The weights of consecutive rows. rows: of each."""
        sizes = list(rows)
        scales = [None] * len(sizes) if self.scale is None else self.scale.split(sizes)
        return [Stored(data, self.form, scale) for data, scale in zip(self.data.split(sizes), scales, strict=True)]

    def swapped(self) -> "Stored":
        """The two halves of its rows in the other order."""
        scale = None if self.scale is None else torch.cat(self.scale.chunk(2)[::-1])
        return Stored(torch.cat(self.data.chunk(2)[::-1]), self.form, scale)

    def numbers(self, dtype: torch.dtype) -> Float[Tensor, "rows columns"]:
        """Its numbers, computed in float32."""
        found = self.form.numbers(self.data)
        return (found if self.scale is None else found * self.scale[:, None]).to(dtype)


class QuantizedLinear(nn.Module):
    """A linear layer with a stored weight, of which the numbers are computed in each forward pass.

    dtype: of its computation; as of any layer, ``to`` changes it.
    """

    def __init__(self, stored: Stored, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.form = stored.form
        self.out_features, self.in_features = stored.shape
        # As a parameter, which is moved in place, so that copies which share it still do.
        self.data = nn.Parameter(stored.data, requires_grad=False)
        # As bytes, which a change of dtype does not round.
        self.register_buffer("scale", None if stored.scale is None else stored.scale.contiguous().view(torch.uint8))
        self.register_buffer("like", torch.empty(0, dtype=dtype), persistent=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def weight(self) -> Float[Tensor, "rows columns"]:
        """The numbers of the weight, in the dtype of the computation."""
        own: Any = self
        scale = None if own.scale is None else own.scale.view(torch.float32)
        return Stored(own.data, self.form, scale).numbers(own.like.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """[..., columns] to [..., rows]."""
        return F.linear(x, self.weight.to(x.dtype), self.bias)

    def plain(self) -> nn.Linear:
        """A layer of the same numbers whose weight is a parameter."""
        with torch.device("meta"):
            layer = nn.Linear(self.in_features, self.out_features, self.bias is not None)
        layer.weight, layer.bias = nn.Parameter(self.weight, requires_grad=False), self.bias  # pyright: ignore[reportAttributeAccessIssue]
        return layer


def replace_layer(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one of this name."""
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, layer)
