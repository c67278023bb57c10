"""A CLIP text encoder and its tokenizer: text to the tokens that a network hears."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from cloisonne.errors import SceneError


class TextEncoder:
    """Text as Stable Diffusion reads it: start, words, end, padding; all of it is heard.

    length: tokens of every sequence. width: D of what comes out. tokenizer: for methods that build sequences of their
    own.
    """

    def __init__(self, module: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
        self.module = module
        self.tokenizer = tokenizer
        self.length: int = min(int(tokenizer.model_max_length), module.config.max_position_embeddings)
        self.width: int = module.config.hidden_size

    def ids(self, text: str, *, region: str | None = None) -> list[int]:
        """The ids of a text, padded to ``length``.

        SceneError, about the region if there is one, where it does not fit: cut off, its end would say nothing.
        """
        room = self.length - 2
        words = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        if len(words) > room:
            raise SceneError(
                f'"{_shortened(text)}" takes {len(words)} tokens, but the model reads at most {room}; shorten it.',
                region=region,
            )
        return self.tokenizer(text, padding="max_length", max_length=self.length).input_ids

    @torch.no_grad()
    def encode(self, ids: Sequence[int]) -> Tensor:
        """[N, D], float32: the last layer's output, normalised, for a sequence of N ids."""
        batch = torch.tensor([list(ids)], device=self.module.device)
        return self.module(batch).last_hidden_state[0].float()


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
