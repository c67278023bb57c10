"""Image prompts that the rows of one batch attend to besides their texts, with their keys and values cached.

Decoupled cross-attention (IP-Adapter, arXiv 2308.06721, section 3.2.2), by region:
``out(p) = TextAttention(p) + sum_k w_k(p) Attn(q_p; K_k, V_k)``. Unlike texts, whose shares add up to 1, weights count
as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cloisonne.core.attention.text_sequences import Projection, TextSequence


class ImagePrompts:
    """The pictures of a batch of R rows, at least one, all of N tokens; a row may look at none.

    An instance belongs to one network and one run.
    """

    def __init__(self, pictures: Sequence[TextSequence]) -> None:
        self.image_prompts = tuple(pictures)
        self.rows = tuple(picture.row for picture in self.image_prompts)
        self._weights: dict[tuple[int, int], Tensor] = {}
        self._projected: dict[str, tuple[Tensor, Tensor]] = {}

    def weights(self, grid: tuple[int, int]) -> Tensor:
        """[T, Q]: each picture's mask times its strength, averaged over the area of each pixel of the grid."""
        if grid not in self._weights:
            self._weights[grid] = torch.stack([picture.weight(grid) for picture in self.image_prompts])
        return self._weights[grid]

    def projected(self, layer: str, project: Projection) -> tuple[Tensor, Tensor]:
        """A layer's keys and values of all pictures, T of them; computed once a run."""
        if layer not in self._projected:
            self._projected[layer] = project(torch.stack([picture.value for picture in self.image_prompts]))
        return self._projected[layer]
