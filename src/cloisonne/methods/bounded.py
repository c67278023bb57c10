"""Regions on checkpoints that were never trained for them: texts by region, whose phrases are boosted.

Each pixel attends to the text of its regions, ``caption, phrase``, as in the method attention, and to the caption where
no region is. In such a text most of the attention goes to the start token and the padding, as everywhere in Stable
Diffusion, and a network that has always read of the objects with the background draws the background: many objects are
left out. Here each token of a region's phrase counts ``boost`` times in the softmax: the logarithm of that is added to
its logits, as in paint-with-words (arXiv 2211.01324) and DenseDiffusion (2308.12964). The phrase stands twice in its
text: a causal text encoder reads it the second time with all of it before (echo embeddings, arXiv 2402.15449).

No text describes what is elsewhere. A text encoder spreads words to all later tokens and to the padding, so that a
phrase in the text of other pixels is drawn there too: isolated texts matter most (3DIS-FLUX, arXiv 2501.05131). For
the same reason the caption leaves out words that name a region. A region smaller than a cell of a coarse attention grid
counts fully in the cell that holds most of it.

In joint attention a text shares its softmax with the image. Its counts are scaled to add up to its number of tokens, so
that text and image are balanced as the network was trained, while a token of the phrase counts ``boost`` times as often
as the others. The texts of regions leave out their padding, of which there are hundreds of tokens; that of the caption
counts everywhere.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from cloisonne.core.plan import Conditioning, Tokens
from cloisonne.errors import CapabilityError
from cloisonne.methods.base import Fragment
from cloisonne.methods.context import Context, tokens_of
from cloisonne.methods.layout import Layout, Part, Placed
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import EncodedText
from cloisonne.scene.prompt import Piece, pieces, plain, written
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.place_words import described_place

BOOST = 1000.0
"""How many times a token of a phrase counts inside its region. Measured: docs/methods/regions-without-training.md."""

REPEATS = 2
"""How often a phrase stands in its text. Measured there too."""

_ARTICLE = re.compile(r"(?:a|an|the)\s+", re.IGNORECASE)
_JOINING = r"(?:(?:[,;\s]|\b(?:and|or|with)\b)+)?"


Counts: TypeAlias = tuple[tuple[int, int, float], ...]
"""(start, stop, times) of the tokens of a text that count several times."""

BOOSTED = ("bounded", "bounded-words")
"""The methods that read ``Scene.region_boost``."""


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """Texts by region, whose phrases are boosted.

    boost: how many times a token of a phrase counts inside its region, where the scene has no number as its
    ``region_boost``; 1 is the text ``caption, phrase`` as it is. repeats: how often the phrase stands in its text,
    while that fits one chunk. place_words: whether the text of a region has its size, aspect and place before its
    phrase, as the method words does; for checkpoints that follow place words.
    """

    boost: float = BOOST
    repeats: int = REPEATS
    place_words: bool = False

    def fitting(self, placed: Sequence[Placed], ctx: Context) -> list[Placed]:
        """All: each region has a text of its own."""
        return list(placed)

    def compile(self, layout: Layout, ctx: Context) -> Fragment:
        """A sequence for the caption and one for each region, shared by the rule of overlap."""
        caption = _without(ctx.scene.caption, layout.parts)
        texts = [self._text(part, caption, ctx) for part in layout.parts]
        if layout.parts and ctx.model.spec.joint:
            text = _joint(ctx.encoder.text(caption), layout, texts, ctx)
        else:
            rest = tokens_of(ctx.encoder.text(caption), layout.rest if layout.parts else None)
            own = [_tokens(text, counts, part) for part, (text, counts) in zip(layout.parts, texts, strict=True)]
            text = Conditioning(tokens=(rest, *own))
        return Fragment(text=text, summary=_summary(ctx.scene.caption, layout.parts, ctx), parts=layout.parts)

    def _text(self, part: Part, caption: str, ctx: Context) -> tuple[EncodedText, Counts]:
        """The text of a region, whose phrase is at the end, and how often the tokens of the phrase count."""
        boost = ctx.scene.region_boost
        if boost is None or boost == "auto":
            boost = self.boost
        place = described_place(part.box) if self.place_words else ""
        before = pieces("".join(f"{text}, " for text in (caption, place) if text))
        phrase, comma = pieces(part.region.phrase), Piece(", ")
        again = [comma, *phrase] * (self.repeats - 1) if boost != 1 else []
        if _count([*before, *phrase, *again], ctx) > ctx.model.text.capacity:
            again = []
        encoded = ctx.encoder.text_pieces([*before, *phrase, *again], part.name)
        if boost == 1:
            return encoded, ()
        places = _places(encoded, ctx, part.name)
        boosted = [k for k, piece in enumerate([*phrase, *again], len(before)) if piece is not comma]
        return encoded, tuple((start, stop, boost) for start, stop in _merged(s for k in boosted for s in places[k]))


def _tokens(encoded: EncodedText, counts: Counts, part: Part) -> Tokens:
    """The text of a region as a sequence of its own."""
    return Tokens(encoded.tokens, mask=part.share, counts=counts, peak=True, ids=encoded.ids, region=part.name)


def _joint(
    caption: EncodedText, layout: Layout, texts: Sequence[tuple[EncodedText, Counts]], ctx: Context
) -> Conditioning:
    """The texts of joint attention. A region that alone takes the whole canvas has its own padding."""
    parts = layout.parts
    if len(parts) == 1 and bool((parts[0].share == 1).all()):
        ((text, counts),) = texts
        whole = Tokens(text.tokens, counts=_balanced(counts, text), region=parts[0].name)
        return Conditioning(tokens=(whole,), joint=ctx.joint_options())
    words, padding = Tokens(caption.without_padding, bias_mask=layout.rest), Tokens(caption.padding)
    own = [
        Tokens(text.without_padding, mask=part.share, counts=_balanced(counts, text), peak=True, region=part.name)
        for part, (text, counts) in zip(parts, texts, strict=True)
    ]
    shared = (words, padding) if len(padding.value) else (words,)
    return Conditioning(tokens=(*shared, *own), joint=ctx.joint_options())


def _balanced(counts: Counts, text: EncodedText) -> Counts:
    """Counts of all tokens of a text but its padding, in the same ratios, that add up to the number of these tokens."""
    if not counts:
        return ()
    length = len(text.without_padding)
    others = length - sum(stop - start for start, stop, _ in counts)
    scale = length / (others + sum((stop - start) * times for start, stop, times in counts))
    ends = [(0, 0, 0.0), *counts, (length, length, 0.0)]
    between = ((first[1], second[0], scale) for first, second in pairwise(ends))
    own = ((start, stop, times * scale) for start, stop, times in counts)
    return tuple(sorted(span for span in (*own, *between) if span[0] < span[1]))


def idle_boost(scene: Scene, placed: Sequence[Placed], model: Model) -> Iterator[str]:
    """A warning where the scene's boost counts for no method."""
    if scene.region_boost is not None and scene.method not in BOOSTED:
        yield f'region_boost changes nothing here: the method "{scene.method}" boosts no phrase; choose bounded.'


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that follow each other as one."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def _without(caption: str, parts: Sequence[Part]) -> str:
    """The caption less the words that name regions, whatever their articles, and what joins them to the words before.

    "a cat and a dog on a beach" is "on a beach" if both have regions. The longest phrases are searched first; of
    regions with equal phrases each takes an occurrence of its own.
    """
    left = pieces(caption)
    for part in sorted(parts, key=lambda part: -len(plain(part.region.phrase))):
        core = _ARTICLE.sub("", plain(part.region.phrase).strip(), count=1)
        named = re.compile(rf"{_JOINING}\b(?:(?:a|an|the)\s+)?{re.escape(core)}(?!\w)", re.IGNORECASE)
        for k, piece in enumerate(left):
            if match := named.search(piece.words):
                left[k] = piece._replace(words=piece.words[: match.start()] + piece.words[match.end() :])
                break
    if left == pieces(caption) or not any(piece.words.strip(" ,;") for piece in left):
        return caption if left == pieces(caption) else ""
    return re.sub(f"^{_JOINING}", "", written(piece for piece in left if piece.words), flags=re.IGNORECASE).strip(" ,;")


def _joined(first: str, second: str) -> str:
    return ", ".join(filter(None, [first, second]))


def _places(encoded: EncodedText, ctx: Context, region: str) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Where each piece of a text is. Raises CapabilityError where the text encoder does not give the places."""
    if not encoded.word_spans:
        raise CapabilityError(
            f'The text encoder of "{ctx.model.name}" does not give the places of words, which the method bounded '
            "counts several times; choose the method attention.",
            region=region,
        )
    return encoded.word_spans


def _count(parts: Iterable[Piece], ctx: Context) -> int:
    """The number of tokens of the words of a text's pieces."""
    return sum(ctx.model.text.count(piece.words) for piece in parts)


def _summary(caption: str, parts: Sequence[Part], ctx: Context) -> str:
    """The caption and as many of the phrases as fit one text: pooled text, and what ControlNets read."""
    text = caption
    for part in parts:
        if _without(text, [part]) == text:
            longer = _joined(text, part.region.phrase)
            text = longer if _count(pieces(longer), ctx) <= ctx.model.text.capacity else text
    return text
