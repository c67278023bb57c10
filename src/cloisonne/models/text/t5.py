"""Text encoders with T5: FLUX.1's, of T5's tokens and CLIP's pooled text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from cloisonne.errors import SceneError
from cloisonne.models.checkpoints.parts import TextPart
from cloisonne.models.text.encoder import EncodedText, weighted
from cloisonne.models.text.learned_words import LearnedWords
from cloisonne.scene.prompt import Piece


@dataclass(frozen=True, eq=False)
class T5Text:
    """A T5 encoder: a text's tokens, the end token, and padding, all of them attended to as FLUX.1 was trained.

    length: tokens of an encoded text. device: where it runs; None means the device of its weights.
    """

    part: TextPart
    length: int
    device: torch.device | None = None

    def token_ids(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of a text of any length, without the end token, and the place in the text where each ends."""
        found = self.part.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(found.input_ids), [stop for _, stop in found.offset_mapping]

    @torch.no_grad()
    def encoded(self, ids: Sequence[int]) -> Tensor:
        """[length, D], float32, of at most ``length - 1`` ids."""
        end, pad = self.part.tokenizer.eos_token_id, self.part.tokenizer.pad_token_id
        padded = [*ids, end, *[pad] * (self.length - 1 - len(ids))]
        batch = torch.tensor([padded], device=self.device or self.part.module.device)
        return self.part.module(batch).last_hidden_state[0].float()


@dataclass(frozen=True, eq=False)
class ClipPooled:
    """The pooled text of a CLIP text encoder: the state of its end token. A longer text is cut, as in diffusers."""

    part: TextPart
    device: torch.device | None = None

    @torch.no_grad()
    def encoded(self, text: str) -> Tensor:
        """[P], float32."""
        tokenizer, module = self.part.tokenizer, self.part.module
        length = min(int(tokenizer.model_max_length), module.config.max_position_embeddings)
        own = tokenizer(text, add_special_tokens=False, verbose=False).input_ids[: length - 2]
        ids = [tokenizer.bos_token_id, *own, tokenizer.eos_token_id]
        ids += [tokenizer.pad_token_id] * (length - len(ids))
        batch = torch.tensor([ids], device=self.device or module.device)
        return module(batch).pooler_output[0].float()


class FluxTextEncoder:
    """FLUX.1's text conditioning: T5's tokens, padded, and CLIP's pooled text.

    parts: CLIP's and T5's. Attributes as in :class:`~cloisonne.models.text.encoder.TextEncoder`. Only T5's length
    limits a text.
    """

    learned, added_words = LearnedWords(), ()
    zero_when_empty = has_positions = False

    def __init__(
        self, parts: Sequence[TextPart], *, device: torch.device | None = None, zero_when_empty: bool = False
    ) -> None:
        clip, t5 = parts
        self.length = int(t5.tokenizer.model_max_length)
        self.capacity = self.length - 1
        self.width = int(t5.module.config.d_model)
        self.pooled_width = int(clip.module.config.hidden_size)
        self.modules: tuple[nn.Module, ...] = (clip.module, t5.module)
        self._pooled = ClipPooled(clip, device)
        self._t5 = T5Text(t5, self.length, device)
        self._device = device

    def encode(self, pieces: Sequence[Piece], *, region: str | None = None, blank: bool = False) -> EncodedText:
        """Encode a text; see :class:`~cloisonne.models.text.encoder.TextEncoder`."""
        text = "".join(piece.words for piece in pieces)
        ids, ends = self._t5.token_ids(text)
        if len(ids) > self.capacity:
            raise SceneError(
                f'"{text if len(text) <= 40 else text[:37] + "..."}" takes {len(ids)} tokens, but the model reads at '
                f"most {self.capacity}; shorten it.",
                region=region,
            )
        spans = spans_of(pieces, ends)
        if blank:
            return EncodedText(tokens=self._zeros(), pooled=self._no_pooled(), word_spans=spans, used=len(ids) + 1)
        tokens = self._t5.encoded(ids)
        if any(piece.weight != 1 for piece in pieces):
            weights = [1.0] * self.length
            for (start, stop), piece in zip(spans, pieces, strict=True):
                weights[start:stop] = [piece.weight] * (stop - start)
            tokens = weighted(tokens, self._t5.encoded([]), weights)
        return EncodedText(tokens=tokens, pooled=self._pooled.encoded(text), word_spans=spans, used=len(ids) + 1)

    def count(self, text: str) -> int:
        """The tokens of T5 that a plain text takes, without the end token."""
        return len(self._t5.token_ids(text)[0])

    def blank(self) -> EncodedText:
        """Zeros in the shape of an encoded text."""
        return EncodedText(tokens=self._zeros(), pooled=self._no_pooled())

    def _zeros(self) -> Tensor:
        return torch.zeros(self.length, self.width, device=self._placed())

    def _no_pooled(self) -> Tensor:
        return torch.zeros(self.pooled_width, device=self._placed())

    def _placed(self) -> torch.device:
        module: Any = self.modules[0]
        return self._device or module.device


def spans_of(pieces: Sequence[Piece], ends: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(start, stop) of the tokens of each piece: those that end within it. ends: in characters of the whole text."""
    stops = list(accumulate((len(piece.words) for piece in pieces), initial=0))
    return tuple(pairwise(sum(end <= stop for end in ends) for stop in stops))
