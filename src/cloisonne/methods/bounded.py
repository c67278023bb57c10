"""Regions on checkpoints that were never trained for them: a bias bounds the tokens of each phrase to its region.

All pixels attend to one sequence, with one softmax:

    [start] caption [end] padding   phrase 1 [end]   phrase 2 [end] ...

The caption's part is what the network was trained with. A text encoder passes words on to all later tokens and to the
padding, so that phrases encoded together would reach every pixel: each is encoded in a text of its own, ``caption,
phrase``, and only the phrase and its end token are taken from that. At a pixel that the region covers by m, each of
them counts ``boost * weight * m`` times; the logarithm of that is added to its logits.

After paint-with-words (arXiv 2211.01324), DenseDiffusion (2308.12964) and Bounded Attention (2403.16990); texts are
isolated as in 3DIS-FLUX (2501.05131). A batch has the rows of the caption alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from cloisonne.core.plan import Conditioning, Tokens
from cloisonne.methods.base import Fragment
from cloisonne.methods.context import Context, tokens_of
from cloisonne.methods.layout import Layout, Part, Placed
from cloisonne.models.text.encoder import EncodedText
from cloisonne.scene.prompt import Piece, pieces, plain
from cloisonne.scene.shapes.place_words import described_place

BOOST = 300.0
"""How many times a token of a phrase counts inside its region, as measured in docs/results.md."""

_ARTICLE = re.compile(r"(?:a|an|the)\s+", re.IGNORECASE)


class Span(NamedTuple):
    """Tokens ``start .. stop`` of the caption that name a region."""

    start: int
    stop: int
    part: Part


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """Regions as token biases.

    boost: how many times a token of a phrase counts inside its region. place_words: whether the text of a region says
    its size, aspect and place before the phrase, as the method words does; for checkpoints that know such words.
    """

    boost: float = BOOST
    place_words: bool = False

    def fitting(self, placed: Sequence[Placed], ctx: Context) -> list[Placed]:
        """All: each phrase has a text of its own."""
        return list(placed)

    def compile(self, layout: Layout, ctx: Context) -> Fragment:
        """One sequence; regions that count once everywhere have nothing to bound and are part of the caption."""
        biases = {part.name: self._bias_mask(part) for part in layout.parts}
        free = [part for part in layout.parts if bool((biases[part.name] == 1).all())]
        bounded = [part for part in layout.parts if part not in free]
        caption = ", ".join(filter(None, [ctx.scene.caption, *(part.region.phrase for part in free)]))
        tokens = _caption(caption, bounded, ctx)
        for part in bounded:
            tokens += (self._phrase(part, caption, biases[part.name], ctx),)
        return Fragment(text=Conditioning(tokens=tokens), summary=_summary(caption, bounded, ctx), parts=layout.parts)

    def _bias_mask(self, part: Part) -> Tensor:
        """[H, W]: how many times each of the region's tokens counts at a pixel."""
        return part.mask.clamp(0, 1) * (self.boost * part.weight)

    def _phrase(self, part: Part, caption: str, bias_mask: Tensor, ctx: Context) -> Tokens:
        """The tokens of a phrase and its end token, encoded behind the caption."""
        own = part.region.phrase
        if self.place_words:
            own = f"{described_place(part.box)}, {own}"
        encoded = ctx.encode(", ".join(filter(None, [caption, own])), part.name)
        stop = 2 + _count(pieces(", ".join(filter(None, [caption, own]))), None, ctx)
        start = stop - 1 - _count(pieces(part.region.phrase), None, ctx)
        return _cut(encoded, start, stop, bias_mask, part.name)


def _caption(text: str, parts: Sequence[Part], ctx: Context) -> tuple[Tokens, ...]:
    """The caption as one piece, or cut where its words name regions: those tokens count nowhere else."""
    encoded = ctx.encode(text)
    found, at = [], 0
    for start, stop, part in _named(text, parts, ctx):
        found += [_cut(encoded, at, start), _cut(encoded, start, stop, part.mask.clamp(0, 1), part.name)]
        at = stop
    return (*found, _cut(encoded, at, len(encoded.tokens))) if found else (tokens_of(encoded),)


def _cut(
    encoded: EncodedText, start: int, stop: int, bias_mask: Tensor | None = None, region: str | None = None
) -> Tokens:
    """Tokens ``start .. stop`` of a text. bias_mask: [H, W]. region: the name of the region they are about."""
    ids = None if encoded.ids is None else encoded.ids[start:stop]
    return Tokens(encoded.tokens[start:stop], bias_mask=bias_mask, ids=ids, region=region)


def _named(text: str, parts: Sequence[Part], ctx: Context) -> list[Span]:
    """Where the caption names regions by the words of their phrases, whatever their articles; in order.

    Longer phrases are searched first, and of equal ones each region has an occurrence of its own.
    """
    written, words = pieces(text), plain(text)
    taken = [False] * len(words)
    found: list[tuple[int, int, Part]] = []
    for part in sorted(parts, key=lambda part: -len(plain(part.region.phrase))):
        core = _ARTICLE.sub("", plain(part.region.phrase).strip(), count=1)
        pattern = rf"(?<!\w)(?:(?:a|an|the)\s+)?{re.escape(core)}(?!\w)"
        for match in re.finditer(pattern, words, re.IGNORECASE):
            if not any(taken[match.start() : match.end()]):
                taken[match.start() : match.end()] = [True] * len(match[0])
                found.append((match.start(), match.end(), part))
                break
    found.sort(key=lambda one: one[0])
    return [Span(1 + _count(written, a, ctx), 1 + _count(written, b, ctx), part) for a, b, part in found]


def _count(parts: Sequence[Piece], stop: int | None, ctx: Context) -> int:
    """The number of tokens of a text, or of its first ``stop`` characters."""
    count, at = 0, 0
    for piece in parts:
        words = piece.words if stop is None else piece.words[: max(0, stop - at)]
        count, at = count + len(ctx.model.text.words(words)), at + len(piece.words)
    return count


def _summary(caption: str, parts: Sequence[Part], ctx: Context) -> str:
    """The caption and as many of the phrases as fit one text: pooled text, and what ControlNets read."""
    text = caption
    for part in parts:
        longer = ", ".join(filter(None, [text, part.region.phrase]))
        text = longer if _count(pieces(longer), None, ctx) <= ctx.model.text.length - 2 else text
    return text
