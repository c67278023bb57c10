"""Weights from files to a GPU, through two pieces of pinned memory.

While the GPU copies one piece, the CPU reads the next from the disk into the other. Copies from mapped files themselves
would wait for each page.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PIECE = 64 * 2**20
"""Bytes of a piece."""


@dataclass(eq=False)
class Piece:
    """A part of the CPU's memory, uint8 [PIECE]. copied: a CUDA event at the end of its last copy, None before one."""

    memory: Tensor
    copied: Any = None


def move(module: nn.Module, device: torch.device) -> None:
    """Move a network's parameters and buffers to a device; those that are one tensor stay one."""
    if device.type != "cuda":
        module.to(device)
        return
    pieces = [Piece(torch.empty(PIECE, dtype=torch.uint8, pin_memory=True)) for _ in range(2)]
    move_by(module, device, pieces)
    torch.cuda.synchronize(device)


def move_by(module: nn.Module, device: torch.device, pieces: Sequence[Piece]) -> None:
    """The same by these pieces, without waiting for the end."""
    turns = _turns(pieces)
    made: dict[int, Tensor] = {}
    for holder in module.modules():
        for parameter in holder.parameters(recurse=False):
            if parameter.device != device and id(parameter) not in made:
                made[id(parameter)] = parameter.data = _copied(parameter.data, device, turns)
        for name, buffer in holder.named_buffers(recurse=False):
            if buffer.device != device:
                found = made.get(id(buffer))
                made[id(buffer)] = moved = _copied(buffer, device, turns) if found is None else found
                holder._buffers[name] = moved


def _copied(source: Tensor, device: torch.device, turns: Iterator[Piece]) -> Tensor:
    target = torch.empty_like(source, device=device)
    if not source.is_contiguous() or source.device.type != "cpu":
        return target.copy_(source)
    # As bytes, so that one piece serves all dtypes.
    read, written = (tensor.detach().view(-1).view(torch.uint8) for tensor in (source, target))
    for start in range(0, len(read), PIECE):
        piece = next(turns)
        part = read[start : start + PIECE]
        own = piece.memory[: len(part)].copy_(part)
        written[start : start + len(part)].copy_(own, non_blocking=True)
        if device.type == "cuda":
            piece.copied = torch.cuda.current_stream(device).record_event()
    return target


def _turns(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """The pieces in turn, each when its last copy is done."""
    while True:
        for piece in pieces:
            if piece.copied is not None:
                piece.copied.synchronize()
            yield piece
