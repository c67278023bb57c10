"""Text encoders of Qwen3: hidden states of a language model that reads a text as a user's message."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cloisonne.errors import CheckpointError, SceneError
from cloisonne.models.checkpoints.parts import TextPart
from cloisonne.models.text.encoder import EncodedText, weighted
from cloisonne.models.text.learned_words import LearnedWords
from cloisonne.models.text.t5 import spans_of
from cloisonne.scene.prompt import Piece

LENGTH = 512
"""Tokens of an encoded text, the chat template's own among them."""
MARK = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands for the text in the chat template."""


@dataclass(frozen=True, kw_only=True)
class QwenReading:
    """What a family reads of its language model.

    layers: indices of the hidden states whose numbers one after the other are a token; 0 is the embedding, -1 the last.
    thinking:
    the chat template's ``enable_thinking``. padded: whether texts are padded to ``LENGTH`` tokens, which the network
    attends to.
    """

    layers: tuple[int, ...]
    thinking: bool
    padded: bool


FLUX2 = QwenReading(layers=(9, 18, 27), thinking=False, padded=True)
ZIMAGE = QwenReading(layers=(-2,), thinking=True, padded=False)


class QwenTextEncoder:
    """Text conditioning by a Qwen3 model, without pooled text.

    parts: one, its module a Qwen3Model. Attributes as in :class:`~cloisonne.models.text.encoder.TextEncoder`.

    Raises:
        CheckpointError: The tokenizer has no chat template that holds a user's text, or pads on the left.
    """

    learned, added_words = LearnedWords(), ()
    zero_when_empty = has_positions = False
    pooled_width = 0

    def __init__(
        self,
        parts: Sequence[TextPart],
        *,
        reading: QwenReading,
        device: torch.device | None = None,
        zero_when_empty: bool = False,
    ) -> None:
        (part,) = parts
        module: Any = part.module
        self._reading = reading
        self._tokenizer = part.tokenizer
        self._device = device
        self.modules: tuple[nn.Module, ...] = (module,)
        self.width = int(module.config.hidden_size) * len(reading.layers)
        self.length = LENGTH
        if self._tokenizer.padding_side != "right":
            raise CheckpointError('The tokenizer of the text encoder pads on the left; set "padding_side": "right".')
        self._start = len(self._message(MARK).split(MARK)[0])
        self._own = len(self._ids("")[0])
        self.capacity = self.length - self._own

    def encode(self, pieces: Sequence[Piece], *, region: str | None = None, blank: bool = False) -> EncodedText:
        """Encode a text; see :class:`~cloisonne.models.text.encoder.TextEncoder`."""
        text = "".join(piece.words for piece in pieces)
        ids, ends = self._ids(text)
        if len(ids) > self.length:
            raise SceneError(
                f'"{text if len(text) <= 40 else text[:37] + "..."}" takes {len(ids) - self._own} tokens, but the '
                f"model reads at most {self.capacity}; shorten it.",
                region=region,
            )
        spans = spans_of(pieces, ends)
        if blank:
            tokens = torch.zeros(self._rows(ids), self.width, device=self._placed())
            return EncodedText(tokens=tokens, word_spans=tuple((span,) for span in spans), used=len(ids))
        tokens = self._states(ids)
        if any(piece.weight != 1 for piece in pieces):
            weights = [1.0] * len(tokens)
            for (start, stop), piece in zip(spans, pieces, strict=True):
                weights[start:stop] = [piece.weight] * (stop - start)
            tokens = weighted(tokens, self._states(self._ids("")[0], len(tokens)), weights)
        return EncodedText(tokens=tokens, word_spans=tuple((span,) for span in spans), used=len(ids))

    def count(self, text: str) -> int:
        """The tokens that a plain text takes, without the chat template's own."""
        return len(self._ids(text)[0]) - self._own

    def blank(self) -> EncodedText:
        """Zeros in the shape of an encoded text."""
        ids = self._ids("")[0]
        tokens = torch.zeros(self._rows(ids), self.width, device=self._placed())
        return EncodedText(tokens=tokens, used=len(ids))

    def _message(self, text: str) -> str:
        """The chat template with a text as the user's message."""
        if not self._tokenizer.chat_template:
            raise CheckpointError("The tokenizer of the text encoder has no chat template; download it again.")
        found: str = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=self._reading.thinking,
        )
        if text not in found:
            raise CheckpointError("The chat template of the tokenizer does not hold the user's text; repair it.")
        return found

    def _ids(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of a text in the chat template, and where each ends in the text: below 0 before it."""
        found = self._tokenizer(self._message(text), return_offsets_mapping=True, verbose=False)
        return list(found.input_ids), [stop - self._start for _, stop in found.offset_mapping]

    def _rows(self, ids: Sequence[int]) -> int:
        return self.length if self._reading.padded else len(ids)

    @torch.no_grad()
    def _states(self, ids: Sequence[int], rows: int | None = None) -> Tensor:
        """[rows, D] float32; without a number of rows as many as the family reads."""
        rows = self._rows(ids) if rows is None else rows
        padding = [self._tokenizer.pad_token_id] * (rows - len(ids))
        batch, mask = torch.tensor([[*ids, *padding]]), torch.tensor([[1] * len(ids) + [0] * len(padding)])
        device = self._placed()
        found = self.modules[0](
            input_ids=batch.to(device), attention_mask=mask.to(device), output_hidden_states=True, use_cache=False
        ).hidden_states
        return torch.cat([found[layer][0, :rows] for layer in self._reading.layers], -1).float()

    def _placed(self) -> torch.device:
        module: Any = self.modules[0]
        return self._device or module.device
