"""CLIP text encoders, one or Stable Diffusion XL's two, and their tokenizers."""

from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cloisonne.errors import CheckpointError, SceneError
from cloisonne.models.checkpoints.parts import TextPart
from cloisonne.models.text import replaced_embeddings
from cloisonne.models.text.cache import TextCache
from cloisonne.models.text.chunks import MAX_CHUNKS, chunks, spans
from cloisonne.models.text.encoder import EncodedText, weighted
from cloisonne.models.text.learned_words import LearnedWords
from cloisonne.scene.prompt import Piece

_WANTED: ContextVar[list[tuple[int, ...]] | None] = ContextVar("wanted_texts", default=None)

REMEMBERED = 256
"""Keys of batches that one encoder keeps."""


class ClipTextEncoder:
    """Stable Diffusion's text conditioning: start token, text, end token, padding, all of them attended to.

    With one encoder, tokens are its last layer's output, normalised. With the two of Stable Diffusion XL they are the
    last but one layer's outputs of both, concatenated, and the second one's projection is the pooled text. A text of
    more than ``capacity`` tokens is several chunks (``chunks.py``), and the first one's pooled text is its own.
    Attributes as in :class:`~cloisonne.models.text.encoder.TextEncoder`. tokenizer: for methods that build sequences of
    their own. device: where it runs; None means the device of its weights.
    """

    def __init__(
        self, parts: Sequence[TextPart], *, device: torch.device | None = None, zero_when_empty: bool = False
    ) -> None:
        self.module: Any = parts[0].module
        self.tokenizer: Any = parts[0].tokenizer
        self.learned = LearnedWords.of(self.tokenizer, parts[0].learned)
        self.modules: tuple[Any, ...] = tuple(part.module for part in parts)
        self.zero_when_empty = zero_when_empty
        self._device = device
        self.length: int = min(int(self.tokenizer.model_max_length), self.module.config.max_position_embeddings)
        self.capacity: int = self.length - 2
        self.width: int = sum(module.config.hidden_size for module in self.modules)
        self.pooled_width: int = self.modules[1].config.projection_dim if len(parts) > 1 else 0
        self._second_pad: int | None = _second_pad(parts) if len(parts) > 1 else None
        self._empty: tuple[int, ...] = self._padded_empty()
        replaced_embeddings.install(self.module.get_input_embeddings())
        self._cache = TextCache(self.modules)
        self._together = set[Hashable]()

    @property
    def has_positions(self) -> bool:
        """Whether the tokenizer has ReCo's position tokens, <bin000> and so on."""
        return "<bin000>" in self.tokenizer.get_vocab()

    @property
    def added_words(self) -> tuple[str, ...]:
        """The learned words and the tokenizer's added tokens."""
        return *self.learned.ids, *self.tokenizer.get_added_vocab()

    def encode(self, pieces: Sequence[Piece], *, region: str | None = None, blank: bool = False) -> EncodedText:
        """Encode a text; see :class:`~cloisonne.models.text.encoder.TextEncoder`."""
        ids = [self.token_ids(piece.words) for piece in pieces]
        found = chunks(ids, self.capacity, self._is_comma, self._ends_word)
        if len(found) > MAX_CHUNKS:
            raise self._too_long([piece.words for piece in pieces], sum(map(len, ids)), MAX_CHUNKS, region)
        encoded: list[EncodedText] = []
        for chunk in found:
            weights = [1.0, *(pieces[token.piece].weight for token in chunk)]
            weights += [1.0] * (self.length - len(weights))
            encoded.append(self.encode_ids(self._padded([token.id for token in chunk]), weights, blank=blank))
        return EncodedText(
            tokens=torch.cat([own.tokens for own in encoded]),
            pooled=encoded[0].pooled,
            ids=tuple(i for own in encoded for i in own.ids or ()),
            word_spans=spans(found, len(pieces), self.length),
        )

    def count(self, text: str) -> int:
        """The tokens that a plain text takes, without start, end and padding."""
        return len(self.token_ids(text))

    def padded_ids(self, *texts: str, region: str | None = None) -> list[int]:
        """The ids of concatenated texts as one chunk, padded to ``length``.

        Raises SceneError, with the region's name if given, where they are too long; they are never truncated.
        """
        found = [i for text in texts for i in self.token_ids(text)]
        if len(found) > self.capacity:
            raise self._too_long(texts, len(found), 1, region)
        return self._padded(found)

    def token_ids(self, text: str) -> list[int]:
        """The ids of a text, without start, end and padding, of any length."""
        found: list[int] = []
        for part, name in self.learned.split(text):
            if name is not None:
                found += self.learned.ids[name]
            else:
                found += self.tokenizer(part, add_special_tokens=False, verbose=False).input_ids
        return found

    def token_text(self, token: int) -> str:
        """The text of one token id."""
        return self.learned.name_of(token) or self.tokenizer.decode([token])

    def encode_ids(self, ids: Sequence[int], weights: Sequence[float] = (), *, blank: bool = False) -> EncodedText:
        """Encode a sequence of N ids, with a weight each; () is 1 for all. Pooled text has no tokens, so no weights.

        blank: return zeros of the same shape and run no network.
        """
        if blank:
            if (wanted := _WANTED.get()) is not None:
                wanted += [tuple(ids), *([self._empty] if any(weight != 1 for weight in weights) else [])]
            return replace(self._zeros(len(ids)), ids=tuple(ids))
        plain = self._encoded(ids)
        if any(weight != 1 for weight in weights):
            tokens = weighted(plain.tokens, self._encoded(self._empty).tokens, weights)
            return replace(plain, tokens=tokens)
        return plain

    def blank(self) -> EncodedText:
        """Zeros in the shape of an encoded text."""
        return self._zeros(self.length)

    def _zeros(self, num_tokens: int) -> EncodedText:
        device = self._device or self.module.device
        pooled = torch.zeros(self.pooled_width, device=device) if self.pooled_width else None
        return EncodedText(tokens=torch.zeros(num_tokens, self.width, device=device), pooled=pooled)

    def _encoded(self, ids: Sequence[int]) -> EncodedText:
        if replaced_embeddings.active():
            return self._run(ids)
        return self._cache.get(tuple(ids), lambda: self._run(ids))

    def encode_together(self, key: Hashable, encode_blank: Callable[[], object]) -> None:
        """Encode the sequences that ``encode_blank`` encodes as blank in this thread, as one batch for each length.

        What is kept already is not encoded again. Nothing is done for a key of before.
        """
        if key in self._together or replaced_embeddings.active():
            return
        wanted = list[tuple[int, ...]]()
        before = _WANTED.set(wanted)
        try:
            encode_blank()
        finally:
            _WANTED.reset(before)
        by_length: dict[int, list[tuple[int, ...]]] = {}
        for ids in dict.fromkeys(wanted):
            if not self._cache.keeps(ids):
                by_length.setdefault(len(ids), []).append(ids)
        for batch in by_length.values():
            for ids, encoded in zip(batch, self._run_batch(batch), strict=True):
                alone = replace(encoded, tokens=encoded.tokens.clone())  # without the memory of the batch
                self._cache.get(ids, lambda alone=alone: alone)
        if len(self._together) >= REMEMBERED:
            self._together.clear()
        self._together.add(key)

    def _run(self, ids: Sequence[int]) -> EncodedText:
        return self._run_batch([ids])[0]

    @torch.no_grad()
    def _run_batch(self, batch: Sequence[Sequence[int]]) -> list[EncodedText]:
        """Each of the sequences, which are of one length."""
        if self._second_pad is None:
            tokens = self.module(self._batch(batch)).last_hidden_state
            return [EncodedText(tokens=own.float(), ids=tuple(ids)) for own, ids in zip(tokens, batch, strict=True)]
        first = self.module(self._batch(batch), output_hidden_states=True)
        second = self.modules[1](self._batch([self._repadded(ids) for ids in batch]), output_hidden_states=True)
        tokens = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return [
            EncodedText(tokens=own.float(), pooled=pooled.float(), ids=tuple(ids))
            for own, pooled, ids in zip(tokens, second.text_embeds, batch, strict=True)
        ]

    def _padded_empty(self) -> tuple[int, ...]:
        """The ids of the empty text, padded to ``length``.

        A tokenizer stores the padding of its last call; after this no call changes it, so that threads can share it.
        """
        ids = self.tokenizer("", padding="max_length", max_length=self.length).input_ids
        self.tokenizer("", add_special_tokens=False, verbose=False)
        return tuple(ids)

    def _padded(self, ids: Sequence[int]) -> list[int]:
        """At most ``capacity`` ids between a start and an end, with padding."""
        start, *rest = self._empty
        return [start, *ids, *rest[: self.length - 1 - len(ids)]]

    def _is_comma(self, token: int) -> bool:
        return self.tokenizer.convert_ids_to_tokens(token) == ",</w>"

    def _ends_word(self, token: int) -> bool:
        return self.tokenizer.convert_ids_to_tokens(token).endswith("</w>")

    def _too_long(self, texts: Sequence[str], count: int, most: int, region: str | None) -> SceneError:
        return SceneError(
            f'"{_shortened("".join(texts))}" takes {count} tokens, but the model reads at most '
            f"{most * self.capacity}; shorten it.",
            region=region,
        )

    def _batch(self, batch: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([list(ids) for ids in batch], device=self._device or self.module.device)

    def _repadded(self, ids: Sequence[int]) -> list[int]:
        """The sequence with the second tokenizer's padding after the first end token."""
        end = list(ids).index(self.tokenizer.eos_token_id) + 1
        assert self._second_pad is not None, "there is a second encoder"
        return [*ids[:end], *[self._second_pad] * (len(ids) - end)]


def _second_pad(parts: Sequence[TextPart]) -> int:
    first, second = (part.tokenizer for part in parts)
    if first.get_vocab() != second.get_vocab():
        raise CheckpointError("Its two tokenizers have different vocabularies; take both from one checkpoint.")
    if first.model_max_length != second.model_max_length:
        raise CheckpointError("Its two tokenizers have different maximum lengths; take both from one checkpoint.")
    pad: Any = second.pad_token_id
    return int(pad)


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
