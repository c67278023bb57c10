"""Weights that are moved in pieces are the weights, and those that were one tensor stay one."""

from typing import Any

import pytest
import torch
from torch import nn

from cloisonne.models import staged
from cloisonne.models.staged import Piece, move, move_by


def network() -> nn.Module:
    torch.manual_seed(0)
    layers: Any = nn.Sequential(
        nn.Linear(40, 30), nn.BatchNorm1d(30), nn.Linear(30, 40, bias=False), nn.Conv2d(2, 3, 3)
    )
    layers[2].weight = nn.Parameter(layers[0].weight.detach().T)  # not contiguous
    layers.add_module("tied", nn.Linear(40, 30))
    layers.tied.weight = layers[0].weight
    layers[3].half()
    layers.register_buffer("empty", torch.zeros(0))
    return layers


@pytest.mark.parametrize("size", [16, 256, staged.PIECE])
def test_pieces_carry_every_byte(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(staged, "PIECE", size)
    before, moved = network(), network()
    pieces = [Piece(torch.empty(size, dtype=torch.uint8)) for _ in range(2)]
    move_by(moved, torch.device("cpu", 0), pieces)  # another device than "cpu", of the same memory
    assert moved.tied.weight is moved[0].weight  # type: ignore[index, union-attr]
    for (name, expected), (other, found) in zip(before.state_dict().items(), moved.state_dict().items(), strict=True):
        assert name == other
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected), name


def test_to_the_cpu_nothing_is_copied() -> None:
    layers = network()
    places = {name: tensor.data_ptr() for name, tensor in layers.state_dict().items()}
    move(layers, torch.device("cpu"))
    assert {name: tensor.data_ptr() for name, tensor in layers.state_dict().items()} == places
