"""ReCo: caption and regions as one token sequence, with position tokens between them.

Yang et al., CVPR 2023, arXiv 2211.15518, section 3.1:

    [BOS] caption [EOS]  x0 y0 x1 y1 [BOS] phrase [EOS]  x0 y0 x1 y1 [BOS] phrase [EOS] ... [EOS] padding
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from cloisonne.core.plan import Conditioning, Tokens
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.methods.base import Fragment, within_budget
from cloisonne.methods.context import Context, tokens_of
from cloisonne.methods.layout import Layout, Part, Placed
from cloisonne.models.text.encoder import EncodedText
from cloisonne.models.text.learned_words import LearnedWords
from cloisonne.scene.prompt import Piece, pieces
from cloisonne.scene.shapes.geometry import Box, area


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer offers to ReCo: the ids of its start, end and position tokens, and its length."""

    start: int
    end: int
    first_bin: int
    bins: int
    length: int

    @classmethod
    def of(cls, tokenizer: Any) -> "Vocabulary":
        """Read it from a transformers tokenizer; CapabilityError where there are no position tokens."""
        added = {token: index for token, index in tokenizer.get_vocab().items() if re.fullmatch(r"<bin\d+>", token)}
        if not added:
            raise CapabilityError(
                "The model's tokenizer has no position tokens (<bin000> ...); "
                "load a ReCo checkpoint, or choose the method bounded."
            )
        ids = sorted(added.values())
        if ids != list(range(ids[0], ids[0] + len(ids))):
            raise CapabilityError(
                f"The ids of the model's {len(ids)} position tokens are not consecutive; restore its tokenizer."
            )
        return cls(
            start=tokenizer.bos_token_id,
            end=tokenizer.eos_token_id,
            first_bin=ids[0],
            bins=len(ids),
            length=tokenizer.model_max_length,
        )

    def position(self, value: float) -> int:
        """Id of a coordinate in [0, 1]: the nearest of ``bins`` steps, halves to even."""
        return self.first_bin + round(value * (self.bins - 1))


_MARKS = ",.!?*#:;~"


def normalise(text: str) -> str:
    """The published text clean-up: lower case, no leading marks, hyphens and slashes as spaces, single spaces."""
    return " ".join(_spaced(text.lower().lstrip(_MARKS)).split())


def cleaned(text: str, learned: LearnedWords) -> list[Piece]:
    """The same clean-up of a text with weights; between its pieces marks and spaces stay, learned words as they are."""
    parts = [
        Piece(_clean(piece.words, learned, first=k == 0), piece.weight)
        for k, piece in enumerate(pieces(text) or [Piece("")])
    ]
    return parts if len(parts) > 1 else [Piece(" ".join(parts[0].words.split()), parts[0].weight)]


def _clean(text: str, learned: LearnedWords, *, first: bool) -> str:
    parts = learned.split(text.lower())
    if first and parts and parts[0][1] is None:
        parts[0] = (parts[0][0].lstrip(_MARKS), None)
    return "".join(part if name is not None else _spaced(part) for part, name in parts)


def _spaced(text: str) -> str:
    return text.replace("-", " ").replace("/", " ")


class TokenIds(NamedTuple):
    """Ids, and how much each of these tokens counts."""

    ids: list[int]
    weights: list[float]


Spelling: TypeAlias = Callable[[str], list[int]]
"""The ids of a text's words, without a start and an end."""


def sequence(
    tokenizer: Any, caption: str, regions: Sequence[tuple[Box, str]], *, vocabulary: Vocabulary | None = None
) -> tuple[list[int], list[int]]:
    """Ids padded to the tokenizer's length, and the indices of the regions that fit.

    Regions are taken in the given order; one that would not fit whole is left out, never cut, and the ones after it
    still get their chance. Raises SceneError where the caption alone does not fit.
    """
    v = vocabulary or Vocabulary.of(tokenizer)
    ids = caption_ids(tokenizer, v, caption)
    fitting = []
    for index, (box, phrase) in enumerate(regions):
        part = region_ids(tokenizer, v, box, phrase)
        if len(ids) + len(part) <= v.length:
            ids += part
            fitting.append(index)
    return ids + [v.end] * (v.length - len(ids)), fitting


def caption_ids(tokenizer: Any, v: Vocabulary, caption: str) -> list[int]:
    """Start, words, end. Raises SceneError where they do not fit the sequence."""
    return _caption(_ids_by(tokenizer), v, [Piece(normalise(caption))]).ids


def region_ids(tokenizer: Any, v: Vocabulary, box: Box, phrase: str) -> list[int]:
    """Four position tokens, start, words, end."""
    return _region(_ids_by(tokenizer), v, box, [Piece(normalise(phrase))]).ids


def _ids_by(tokenizer: Any) -> Spelling:
    return lambda text: tokenizer(text, add_special_tokens=False, verbose=False).input_ids


def _caption(spell: Spelling, v: Vocabulary, parts: Sequence[Piece]) -> TokenIds:
    encoded_parts = _words(spell, v, parts)
    if (count := len(encoded_parts.ids)) > v.length:
        raise SceneError(f"The caption takes {count} tokens, but the model reads at most {v.length}; shorten it.")
    return encoded_parts


def _region(spell: Spelling, v: Vocabulary, box: Box, parts: Sequence[Piece]) -> TokenIds:
    ids, weights = _words(spell, v, parts)
    place = [v.position(value) for value in box]
    return TokenIds(place + ids, [1.0] * len(place) + weights)


def _words(spell: Spelling, v: Vocabulary, parts: Sequence[Piece]) -> TokenIds:
    """Start, words, end; what is no word has weight 1."""
    encoded_parts = [spell(piece.words) for piece in parts]
    ids = [i for own in encoded_parts for i in own]
    if any(i in (v.start, v.end) or v.first_bin <= i < v.first_bin + v.bins for i in ids):
        text = "".join(piece.words for piece in parts)
        raise SceneError(f'"{text}" holds a token that sequences are built of, such as <bin000>; leave it out.')
    weights = [piece.weight for piece, own in zip(parts, encoded_parts, strict=True) for _ in own]
    return TokenIds([v.start, *ids, v.end], [1.0, *weights, 1.0])


class Reco:
    """One sequence for all of the canvas; the network has learned what the position tokens mean.

    A strict region's tokens get ``log(mask)`` added to their attention logits (our addition): no pixel outside the mask
    attends to them. So do weights, ``log(weight)``: in the softmax a token then counts ``weight`` times; and higher
    priorities, which hide the tokens where they are. Without regions the sequence is the plain prompt. A region with a
    control and no phrase gets the caption as its phrase where others have phrases and there is room: a sequence of
    theirs alone would mean that nothing else is there.
    """

    def fitting(self, placed: Sequence[Placed], ctx: Context) -> list[Placed]:
        text, v = _encoder(ctx), _vocabulary(ctx)
        room = v.length - len(_caption(text.token_ids, v, cleaned(ctx.scene.caption, text.learned)).ids)
        costs = [len(_region(text.token_ids, v, p.box, cleaned(p.region.phrase, text.learned)).ids) for p in placed]
        return within_budget(placed, costs, room)

    def compile(self, layout: Layout, ctx: Context) -> Fragment:
        text, v = _encoder(ctx), _vocabulary(ctx)
        caption = cleaned(ctx.scene.caption, text.learned)
        encoded_parts = [_caption(text.token_ids, v, caption)]
        parts = [
            (part, _region(text.token_ids, v, part.box, cleaned(part.region.phrase, text.learned)))
            for part in layout.parts
        ]
        if parts and ctx.scene.caption:
            captioned = [(part, _region(text.token_ids, v, part.box, caption)) for part in layout.captioned]
            parts += _fitting(
                captioned, v.length - sum(len(own.ids) for own in (*encoded_parts, *(own for _, own in parts)))
            )
        parts.sort(key=lambda one: (-area(one[0].box), one[0].name))
        encoded_parts += [own for _, own in parts]
        ends = list(accumulate(len(own.ids) for own in encoded_parts))
        left = v.length - ends[-1]
        ids = [i for own in encoded_parts for i in own.ids] + [v.end] * left
        weights = [weight for own in encoded_parts for weight in own.weights] + [1.0] * left
        encoded = ctx.encoder.tokens(ids, weights)
        pieces_of = [(part.name, _bias_mask(part)) for part, _ in parts]
        text = Conditioning(tokens=_pieces(encoded, ends, pieces_of))
        return Fragment(text=text, summary=ctx.scene.caption, parts=layout.parts)


def _encoder(ctx: Context) -> Any:
    """The text encoder, one with a tokenizer and token ids; ``capabilities`` refuses others."""
    return ctx.model.text


def _vocabulary(ctx: Context) -> Vocabulary:
    """What the tokenizer offers, and no more tokens than the text encoder has places for."""
    return replace(Vocabulary.of(_encoder(ctx).tokenizer), length=ctx.model.text.length)


def _bias_mask(part: Part) -> Tensor | None:
    """[H, W]: how much a region's tokens count at each pixel; None where that is 1 everywhere."""
    if part.region.strict:
        return part.mask * part.weight
    counted = part.open * part.weight
    return None if bool((counted == 1).all()) else counted


def _fitting(parts: Sequence[tuple[Part, TokenIds]], room: int) -> list[tuple[Part, TokenIds]]:
    """The first of them, as far as there is room for their tokens."""
    ends = accumulate(len(own.ids) for _, own in parts)
    return [one for one, end in zip(parts, ends, strict=True) if end <= room]


def _pieces(text: EncodedText, ends: Sequence[int], regions: Sequence[tuple[str, Tensor | None]]) -> tuple[Tokens, ...]:
    """The sequence as one piece, or cut into caption, regions and padding where a weight varies over the canvas.

    regions: name and bias mask of each region, in the order of the sequence.
    """
    if all(mask is None for _, mask in regions):
        return (tokens_of(text),)
    assert text.ids is not None, "the sequence was encoded from ids"
    cuts = pairwise([0, *ends, len(text.tokens)])
    return tuple(
        Tokens(text.tokens[start:stop], bias_mask=mask, ids=text.ids[start:stop], region=region)
        for (start, stop), (region, mask) in zip(cuts, [(None, None), *regions, (None, None)], strict=True)
        if start < stop
    )
