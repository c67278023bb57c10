"""Image prompts that the rows of one batch attend to besides their texts, with their keys and values cached.

Decoupled cross-attention (IP-Adapter, arXiv 2308.06721, section 3.2.2), by region:
``out(p) = TextAttention(p) + sum_k w_k(p) Attn(q_p; K_k, V_k)``. Unlike texts, whose shares add up to 1, weights count
as they are.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.attention.text_sequences import Projection, TextSequence


class ImagePrompts:
    """The image prompts of a batch of R rows, at least one, all of N tokens; a row may have none.

    An instance belongs to one network and one run.
    """

    def __init__(self, prompts: Sequence[TextSequence]) -> None:
        self.image_prompts = tuple(prompts)
        self.rows = tuple(prompt.row for prompt in self.image_prompts)
        self._weights: dict[tuple[int, int], Tensor] = {}
        self._projected: dict[str, tuple[Tensor, Tensor]] = {}

    def weights(self, grid: tuple[int, int]) -> Float[Tensor, "T Q"]:
        """[T, Q]: each prompt's mask times its strength, averaged over the area of each pixel of the grid."""
        if grid not in self._weights:
            self._weights[grid] = torch.stack([prompt.weight(grid) for prompt in self.image_prompts])
        return self._weights[grid]

    def projected(self, layer: str, project: Projection) -> tuple[Tensor, Tensor]:
        """A layer's keys and values of all prompts, T of them; computed once a run."""
        if layer not in self._projected:
            self._projected[layer] = project(torch.stack([prompt.value for prompt in self.image_prompts]))
        return self._projected[layer]
