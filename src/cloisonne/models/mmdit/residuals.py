"""Residuals of ControlNets as what a transformer adds behind each of its blocks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.control_residuals import BlockPoint
from cloisonne.core.plan import Call


def fits_blocks(call: Call, count: int) -> bool:
    """Whether all residuals of a call are for a network of ``count`` blocks."""
    return all(isinstance(point, BlockPoint) and len(point.of_block) == count for point in call.residuals)


def block_residuals(call: Call, row: int, dtype: torch.dtype) -> tuple[Tensor | None, ...]:
    """What is added behind each block of one row, [1, tokens, D] from the first image token on; () without residuals.

    Blocks that take the same levels share one tensor.
    """
    added: dict[tuple[tuple[BlockPoint, tuple[int, ...]], ...], Tensor] = {}
    points = [point for point in call.residuals if isinstance(point, BlockPoint)]
    found: list[Tensor | None] = []
    for block in range(len(points[0].of_block) if points else 0):
        taken = tuple((point, numbers) for point in points if (numbers := point.of_block[block]))
        if taken and taken not in added:
            levels = [[call.residuals[point][number][row] for number in numbers] for point, numbers in taken]
            added[taken] = torch.stack([_tokens(own) for own in levels]).sum(0)[None].to(dtype)
        found.append(added[taken] if taken else None)
    return tuple(found)


def fitted(residuals: Sequence[Tensor | None], tokens: Tensor) -> list[Tensor] | None:
    """Residuals of some blocks for image tokens [1, S, D] of the network, further ones of which get 0.

    None where no block has any.
    """
    some = next((own for own in residuals if own is not None), None)
    if some is None:
        return None
    missing = tokens.shape[1] - some.shape[1]
    return [F.pad(torch.zeros_like(some) if own is None else own, (0, 0, 0, missing)) for own in residuals]


def _tokens(levels: Sequence[Tensor]) -> Tensor:
    """[tokens, D] of levels [D, h, w] and [D, L], one after the other."""
    return torch.cat([level.flatten(1).T for level in levels])
