"""What every text encoder provides, and the text that it encodes: a network's ``encoder_hidden_states``."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cloisonne.errors import CapabilityError
from cloisonne.models.text.learned_words import LearnedWords
from cloisonne.scene.prompt import Piece


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedText:
    """An encoded text.

    tokens: [N, D], float32; of several encoders, or of the chunks of a long text, one sequence after the other.
    pooled: [P], float32, or None for encoders without pooled text. ids: [N], the token ids that were encoded, None
    where one list does not describe them. word_spans: where in ``tokens`` each piece of the text is, as (start, stop);
    several where it is in several sequences, () where that is not known. used: how many tokens, from the first one, are
    the text and its end token; the others are padding. None where all count.
    """

    tokens: Tensor
    pooled: Tensor | None = None
    ids: tuple[int, ...] | None = None
    word_spans: tuple[tuple[tuple[int, int], ...], ...] = ()
    used: int | None = None

    @property
    def without_padding(self) -> Tensor:
        """[M, D]: the tokens that are no padding."""
        return self.tokens[: self.used]

    @property
    def padding(self) -> Tensor:
        """[N - M, D]: the tokens that are padding."""
        return self.tokens[len(self.without_padding) :]


@runtime_checkable
class TextEncoder(Protocol):
    """A model's text encoder, or its several ones as one.

    length: tokens of an encoded text of one chunk, N. capacity: how many of them a text's own words can take. width: D.
    pooled_width: P, 0 without pooled text. learned: textual inversions. zero_when_empty: an empty negative prompt is
    :meth:`blank` in place of an encoded text. has_positions: whether its tokenizer has ReCo's position tokens.
    modules: the networks that hold its weights.
    """

    @property
    def length(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def pooled_width(self) -> int: ...

    @property
    def learned(self) -> LearnedWords: ...

    @property
    def zero_when_empty(self) -> bool: ...

    @property
    def has_positions(self) -> bool: ...

    @property
    def modules(self) -> tuple[nn.Module, ...]: ...

    @property
    def added_words(self) -> tuple[str, ...]:
        """The learned words and the words that were added to the tokenizer."""
        ...

    def encode(self, pieces: Sequence[Piece], *, region: str | None = None, blank: bool = False) -> EncodedText:
        """Encode a text of weighted pieces, padded to ``length``, or to a multiple where longer texts can be read.

        Args:
            pieces: The text in order; () is the empty text.
            region: Named in the message of an error.
            blank: Return zeros of the same shape and run no network; the text is checked all the same.

        Raises:
            SceneError: The text is longer than the encoder reads; it is never truncated.
            CapabilityError: The model takes no text.
        """
        ...

    def count(self, text: str) -> int:
        """The tokens that a plain text takes, without start, end and padding."""
        ...

    def blank(self) -> EncodedText:
        """Zeros in the shape of an encoded text."""
        ...


@runtime_checkable
class TokenIdEncoder(Protocol):
    """What a text encoder whose text is one sequence of token ids also provides."""

    def token_ids(self, text: str) -> list[int]:
        """The ids of a text, without start, end and padding, of any length."""
        ...

    def token_text(self, token: int) -> str:
        """The text of one token id."""
        ...

    def encode_ids(self, ids: Sequence[int], weights: Sequence[float] = (), *, blank: bool = False) -> EncodedText:
        """Encode a sequence of ids, with a weight each; () is 1 for all. blank: as in ``TextEncoder.encode``."""
        ...


@runtime_checkable
class BatchesTexts(Protocol):
    """A text encoder that encodes several sequences of token ids in one forward."""

    def encode_together(self, key: Hashable, encode_blank: Callable[[], object]) -> None:
        """Encode the sequences that ``encode_blank`` encodes as blank, as one batch, and keep them.

        Nothing is done for a key of before.
        """
        ...


def with_token_ids(text: TextEncoder, wanted_by: str) -> TokenIdEncoder:
    """The text encoder as one of token ids. wanted_by: what reads them, at the start of a CapabilityError's message."""
    if not isinstance(text, TokenIdEncoder):
        raise CapabilityError(f"{wanted_by} token ids, and this model's text encoder has none; load another model.")
    return text


def weighted(encoded: Tensor, empty: Tensor, weights: Sequence[float]) -> Tensor:
    """Tokens [N, D] by the weight of each: ``e + weight * (z - e)``, e being the empty text's token in its place.

    As in ComfyUI and InvokeAI. AUTOMATIC1111 multiplies z and restores the mean of the sequence, which needs a mean
    that is far from 0; the built-in encoder's is not.
    """
    weight = encoded.new_tensor(weights)[:, None]
    return torch.where(weight == 1, encoded, empty + weight * (encoded - empty))
