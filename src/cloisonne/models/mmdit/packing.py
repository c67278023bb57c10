"""Latents as image tokens, and the positions of these in rotary embeddings."""

import torch
from jaxtyping import Float
from torch import Tensor


def packed(z: Float[Tensor, "B C H W"], patch: int) -> Float[Tensor, "B Q D"]:
    """[B, Q, C * patch**2]: squares of ``patch`` x ``patch`` latent pixels in rows, channels first in each token."""
    squares = z.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # [B, C, h, patch, w, patch]
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(tokens: Float[Tensor, "B Q D"], grid: tuple[int, int], patch: int) -> Float[Tensor, "B C H W"]:
    """The inverse of :func:`packed`. grid: (height, width) in tokens."""
    squares = tokens.unflatten(2, (-1, patch, patch)).unflatten(1, grid)  # [B, h, w, C, patch, patch]
    return squares.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def image_positions(
    grid: tuple[int, int], axes: int, device: torch.device | None = None, *, image: int = 0
) -> Float[Tensor, "Q axes"]:
    """[Q, axes]: ``image``, row and column of each image token as the axes 0, 1 and 2; the others are 0."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    positions = torch.zeros(grid[0] * grid[1], axes)
    positions[:, 0] = image
    positions[:, 1], positions[:, 2] = rows.flatten(), columns.flatten()
    return positions.to(device)
