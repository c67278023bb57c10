"""CLIP text encoders and their tokenizers: from text to a network's ``encoder_hidden_states``."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cloisonne.errors import CapabilityError, CheckpointError, SceneError, spelled
from cloisonne.models.checkpoints.parts import TextPart
from cloisonne.models.text import replaced_embeddings
from cloisonne.models.text.learned_words import LearnedWords


class EncodedText(NamedTuple):
    """An encoded text. tokens: [N, D], float32. pooled: [P], float32, of Stable Diffusion XL, or None. ids: [N], the
    token ids that were encoded, where known."""

    tokens: Tensor
    pooled: Tensor | None = None
    ids: tuple[int, ...] | None = None


class TextEncoder:
    """Stable Diffusion's text conditioning: start token, text, end token, padding, all of them attended to.

    With one encoder, tokens are its last layer's output, normalised. With the two of Stable Diffusion XL they are the
    last but one layer's outputs of both, concatenated, and the second one's projection is the pooled text.
    length: tokens of every sequence. width: D. pooled_width: P, 0 without pooled text. tokenizer: for methods that
    build sequences of their own. learned: textual inversions. silent: an empty negative prompt is zeros. device: where
    it runs; None means the device of its weights.
    """

    def __init__(self, parts: Sequence[TextPart], *, device: torch.device | None = None, silent: bool = False) -> None:
        self.module: Any = parts[0].module
        self.tokenizer: Any = parts[0].tokenizer
        self.learned = LearnedWords.of(self.tokenizer, parts[0].learned)
        self.modules: tuple[Any, ...] = tuple(part.module for part in parts)
        self.silent = silent
        self._device = device
        self.length: int = min(int(self.tokenizer.model_max_length), self.module.config.max_position_embeddings)
        self.width: int = sum(module.config.hidden_size for module in self.modules)
        self.pooled_width: int = self.modules[1].config.projection_dim if len(parts) > 1 else 0
        self._second_pad: int | None = _second_pad(parts) if len(parts) > 1 else None
        self._empty: tuple[int, ...] = self._padded_empty()
        replaced_embeddings.install(self.module.get_input_embeddings())

    @property
    def has_positions(self) -> bool:
        """Whether the tokenizer has ReCo's position tokens, <bin000> and so on."""
        return "<bin000>" in self.tokenizer.get_vocab()

    def ids(self, *texts: str, region: str | None = None) -> list[int]:
        """The ids of concatenated texts, padded to ``length``.

        Raises SceneError, with the region's name if given, where they are too long; they are never truncated.
        """
        room = self.length - 2
        words = [i for text in texts for i in self.words(text)]
        if len(words) > room:
            raise SceneError(
                f'"{_shortened("".join(texts))}" takes {len(words)} tokens, but the model reads at most {room}; '
                "shorten it.",
                region=region,
            )
        start, *rest = self._empty
        return [start, *words, *rest[: self.length - 1 - len(words)]]

    def words(self, text: str) -> list[int]:
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

    def _padded_empty(self) -> tuple[int, ...]:
        """The ids of the empty text, padded to ``length``.

        A tokenizer stores the padding of its last call; after this no call changes it, so that threads can share it.
        """
        ids = self.tokenizer("", padding="max_length", max_length=self.length).input_ids
        self.tokenizer("", add_special_tokens=False, verbose=False)
        return tuple(ids)

    @torch.no_grad()
    def say(self, ids: Sequence[int]) -> EncodedText:
        """Encode a sequence of N ids."""
        if self._second_pad is None:
            return EncodedText(self.module(self._batch(ids)).last_hidden_state[0].float())
        first = self.module(self._batch(ids), output_hidden_states=True)
        second = self.modules[1](self._batch(self._repadded(ids)), output_hidden_states=True)
        tokens = torch.cat([first.hidden_states[-2][0], second.hidden_states[-2][0]], dim=-1)
        return EncodedText(tokens.float(), second.text_embeds[0].float())

    def encode(self, ids: Sequence[int]) -> Tensor:
        """[N, D], float32: only the tokens of :meth:`say`."""
        return self.say(ids).tokens

    def blank(self, num_tokens: int, device: torch.device | str) -> EncodedText:
        """Zeros in the shape of an encoded text."""
        pooled = torch.zeros(self.pooled_width, device=device) if self.pooled_width else None
        return EncodedText(torch.zeros(num_tokens, self.width, device=device), pooled)

    def _batch(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor([list(ids)], device=self._device or self.module.device)

    def _repadded(self, ids: Sequence[int]) -> list[int]:
        """The sequence with the second tokenizer's padding after the first end token."""
        end = list(ids).index(self.tokenizer.eos_token_id) + 1
        assert self._second_pad is not None, "there is a second encoder"
        return [*ids[:end], *[self._second_pad] * (len(ids) - end)]


class NoText:
    """Stands for the text encoder of a model that takes no text (Paint by Example); encoding raises CapabilityError."""

    length = 1
    pooled_width = 0
    learned = LearnedWords()
    silent = False
    has_positions = False
    modules: tuple[Any, ...] = ()

    def __init__(self, model: str, width: int) -> None:
        self._model = model
        self.width = width

    @property
    def tokenizer(self) -> Any:
        raise self._refusal(None)

    def ids(self, *texts: str, region: str | None = None) -> list[int]:
        raise self._refusal(region)

    def words(self, text: str) -> list[int]:
        raise self._refusal(None)

    def say(self, ids: Sequence[int]) -> EncodedText:
        raise self._refusal(None)

    def blank(self, num_tokens: int, device: torch.device | str) -> EncodedText:
        """Zeros in the shape of an encoded text."""
        return EncodedText(torch.zeros(num_tokens, self.width, device=device))

    def _refusal(self, region: str | None) -> CapabilityError:
        own = spelled(f'load(..., exemplar="{self._model}")', f"--exemplar-model {self._model}")
        return CapabilityError(
            f'The model "{self._model}" (Paint by Example) takes no text, only exemplars; leave captions and phrases '
            f"out, or load a text model with it: {own}.",
            region=region,
        )


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
