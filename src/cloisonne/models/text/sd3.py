"""Stable Diffusion 3's text conditioning: two CLIP text encoders, and T5 or none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloisonne.errors import CheckpointError, SceneError
from cloisonne.models.checkpoints.parts import TextPart
from cloisonne.models.text.cache import TextCache
from cloisonne.models.text.encoder import EncodedText, weighted
from cloisonne.models.text.learned_words import LearnedWords
from cloisonne.models.text.t5 import T5Text, spans_of
from cloisonne.scene.prompt import Piece

T5_LENGTH = 256
"""Tokens of T5, also where its text encoder is left out and zeros take its place."""


@dataclass(frozen=True, eq=False)
class ClipText:
    """A CLIP text encoder with a projection. A longer text is cut, as in diffusers.

    length: tokens of an encoded text. device: where it runs; None means the device of its weights.
    """

    part: TextPart
    length: int
    device: torch.device | None = None

    def token_ids(self, text: str) -> tuple[list[int], list[int]]:
        """The ids of a text of any length, without start and end, and the place in the text where each ends."""
        found = self.part.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(found.input_ids), [stop for _, stop in found.offset_mapping]

    @torch.no_grad()
    def encoded(self, text: str) -> tuple[Tensor, Tensor]:
        """[length, D], the last but one layer's states, and [P], the projected text; both float32."""
        tokenizer, module = self.part.tokenizer, self.part.module
        ids = self.token_ids(text)[0][: self.length - 2]
        padded = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
        padded += [tokenizer.pad_token_id] * (self.length - len(padded))
        batch = torch.tensor([padded], device=self.device or module.device)
        found: Any = module(batch, output_hidden_states=True)
        return found.hidden_states[-2][0].float(), found.text_embeds[0].float()


class _Plain(NamedTuple):
    """A text without weights. clip: [length, D]. t5: [T5_LENGTH, D]. pooled: [P]."""

    clip: Tensor
    t5: Tensor
    pooled: Tensor


class Sd3TextEncoder:
    """The two CLIP text encoders' states side by side, padded with zeros to T5's width; T5's tokens; and the pooled
    text of both CLIPs.

    The network has no positions of text tokens, so their order has no effect: all tokens of CLIP's and T5's texts stand
    first, then the padding of both. With T5, CLIP reads the first 75 tokens of a text and T5 limits its length; without
    it, CLIP does. Attributes as in :class:`~cloisonne.models.text.encoder.TextEncoder`.

    Args:
        parts: CLIP-L's and CLIP-G's, and T5's if there is one.
        width: D without T5. Raises CheckpointError where CLIP's states are wider.
    """

    learned, added_words = LearnedWords(), ()
    zero_when_empty = has_positions = False

    def __init__(
        self,
        parts: Sequence[TextPart],
        *,
        device: torch.device | None = None,
        zero_when_empty: bool = False,
        width: int,
    ) -> None:
        first, second, *third = parts
        clips: list[Any] = [first.module.config, second.module.config]
        clip_length = min(int(first.tokenizer.model_max_length), clips[0].max_position_embeddings)
        self._clips = tuple(ClipText(part, clip_length, device) for part in (first, second))
        self._t5 = T5Text(third[0], T5_LENGTH, device) if third else None
        self.length = clip_length + T5_LENGTH
        self.capacity = T5_LENGTH - 1 if third else clip_length - 2
        self.width = int(third[0].module.config.d_model) if third else width
        self.pooled_width = sum(config.projection_dim for config in clips)
        self.modules: tuple[nn.Module, ...] = tuple(part.module for part in parts)
        self._device = device
        self._cache = TextCache(self.modules)
        if (own := sum(config.hidden_size for config in clips)) > self.width:
            raise CheckpointError(f"CLIP's text is {own} wide and T5's {self.width}; take all from one checkpoint.")

    def encode(self, pieces: Sequence[Piece], *, region: str | None = None, blank: bool = False) -> EncodedText:
        """Encode a text; see :class:`~cloisonne.models.text.encoder.TextEncoder`."""
        text = "".join(piece.words for piece in pieces)
        if (count := self.count(text)) > self.capacity:
            raise SceneError(
                f'"{text if len(text) <= 40 else text[:37] + "..."}" takes {count} tokens, but the model reads at most '
                f"{self.capacity}; shorten it.",
                region=region,
            )
        clip_ids, clip_ends = self._clips[0].token_ids(text)
        clip_used = min(len(clip_ids) + 2, self._clips[0].length)
        t5_used = 0 if self._t5 is None else count + 1
        spans = self._spans(pieces, clip_ends, text, clip_used)
        if blank:
            return EncodedText(
                tokens=self._zeros(), pooled=self._no_pooled(), word_spans=spans, used=clip_used + t5_used
            )
        clip, t5, pooled = self._plain(text)
        if any(piece.weight != 1 for piece in pieces):
            empty = self._plain("")
            clip = weighted(clip, empty.clip, _weights(pieces, clip_ends, first=1, length=len(clip)))
            if self._t5 is not None:
                t5 = weighted(t5, empty.t5, _weights(pieces, self._t5.token_ids(text)[1], first=0, length=len(t5)))
        tokens = torch.cat([clip[:clip_used], t5[:t5_used], clip[clip_used:], t5[t5_used:]])
        return EncodedText(tokens=tokens, pooled=pooled, word_spans=spans, used=clip_used + t5_used)

    def _spans(
        self, pieces: Sequence[Piece], clip_ends: Sequence[int], text: str, clip_used: int
    ) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Where each piece is in CLIP's text, behind its start token and as far as it is read, and in T5's."""
        most = clip_used - 2
        of_clip = [(1 + min(a, most), 1 + min(b, most)) for a, b in spans_of(pieces, clip_ends)]
        if self._t5 is None:
            return tuple((span,) for span in of_clip)
        of_t5 = [(clip_used + a, clip_used + b) for a, b in spans_of(pieces, self._t5.token_ids(text)[1])]
        found = zip(of_clip, of_t5, strict=True)
        return tuple(tuple(span for span in both if span[0] < span[1]) for both in found)

    def count(self, text: str) -> int:
        """The tokens that a plain text takes, of T5 without its end token, or without T5 of CLIP."""
        return len((self._t5 or self._clips[0]).token_ids(text)[0])

    def blank(self) -> EncodedText:
        """Zeros in the shape of an encoded text."""
        return EncodedText(tokens=self._zeros(), pooled=self._no_pooled())

    def _plain(self, text: str) -> _Plain:
        found = self._cache.get(text, lambda: self._run(text))
        assert found.pooled is not None, "CLIP has pooled text"
        length = self._clips[0].length
        return _Plain(found.tokens[:length], found.tokens[length:], found.pooled)

    def _run(self, text: str) -> EncodedText:
        """The tokens of CLIP and then of T5, in the order of diffusers."""
        (first, pooled), (second, more) = (clip.encoded(text) for clip in self._clips)
        clip = torch.cat([first, second], 1)
        clip = F.pad(clip, (0, self.width - clip.shape[1]))
        if self._t5 is None:
            t5 = clip.new_zeros(T5_LENGTH, self.width)
        else:
            t5 = self._t5.encoded(self._t5.token_ids(text)[0])
        return EncodedText(tokens=torch.cat([clip, t5]), pooled=torch.cat([pooled, more]))

    def _zeros(self) -> Tensor:
        return torch.zeros(self.length, self.width, device=self._placed())

    def _no_pooled(self) -> Tensor:
        return torch.zeros(self.pooled_width, device=self._placed())

    def _placed(self) -> torch.device:
        module: Any = self.modules[0]
        return self._device or module.device


def _weights(pieces: Sequence[Piece], ends: Sequence[int], *, first: int, length: int) -> list[float]:
    """The weight of each token. ends: of the tokens, in characters. first: the place of the first of them."""
    weights = [1.0] * length
    for (start, stop), piece in zip(spans_of(pieces, ends), pieces, strict=True):
        own = slice(min(first + start, length - 1), min(first + stop, length - 1))
        weights[own] = [piece.weight] * (own.stop - own.start)
    return weights
