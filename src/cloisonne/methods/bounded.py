"""Regions on checkpoints that were never trained for them: a bias bounds the tokens of each phrase to its region.

All pixels attend to one sequence, with one softmax:

    [start] caption [end] padding   phrase 1 [end]   phrase 2 [end] ...

The caption's part is what the network was trained with. A text encoder passes words on to all later tokens and to the
padding, so that phrases encoded together would reach every pixel: each is encoded in a text of its own, ``caption,
phrase``, and only the phrase and its end token are taken from that. For the same reason words of the caption that name
a region are left out of it. At a pixel that the region covers by m, each token of its phrase counts ``boost * weight *
m`` times; the logarithm of that is added to its logits.

After paint-with-words (arXiv 2211.01324), DenseDiffusion (2308.12964) and Bounded Attention (2403.16990); texts are
isolated as in 3DIS-FLUX (2501.05131). A batch has the rows of the caption alone. In joint attention the same pieces are
the segments of ``core/attention/joint.py``, with the biases' masks as their weights.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from cloisonne.core.plan import Conditioning, Tokens
from cloisonne.methods.base import Fragment
from cloisonne.methods.baselines import region_in_words
from cloisonne.methods.context import Context, tokens_of
from cloisonne.methods.layout import Layout, Part, Placed
from cloisonne.models.text.encoder import EncodedText
from cloisonne.scene.prompt import pieces, plain, written

BOOST = 300.0
"""How many times a token of a phrase counts inside its region, as measured in docs/results.md."""

_ARTICLE = re.compile(r"(?:a|an|the)\s+", re.IGNORECASE)
_JOINING = r"(?:(?:[,;\s]|\b(?:and|or|with)\b)+)?"


class SharedText(NamedTuple):
    """A text that all pixels attend to.

    spans: part and tokens ``start .. stop`` of the phrases in it, in order; these are bounded where they stand.
    """

    text: str
    spans: tuple[tuple[Part, int, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Bounded:
    """Regions as token biases.

    boost: how many times a token of a phrase counts inside its region. place_words: whether the shared text says size,
    aspect, place and phrase of the regions, as the method words does; for checkpoints that follow place words.
    """

    boost: float = BOOST
    place_words: bool = False

    def fitting(self, placed: Sequence[Placed], ctx: Context) -> list[Placed]:
        """All: a phrase that the shared text has no room for has a text of its own."""
        return list(placed)

    def compile(self, layout: Layout, ctx: Context) -> Fragment:
        """One sequence; regions that count once everywhere are part of the caption."""
        masks = {part.name: self._bias_mask(part) for part in layout.parts}
        bounded = [part for part in layout.parts if not bool((masks[part.name] == 1).all())]
        caption = _without(ctx.scene.caption, bounded)
        for part in layout.parts:
            caption = caption if part in bounded else _joined(caption, part.region.phrase)
        shared = _placed(caption, bounded, ctx) if self.place_words else SharedText(caption)
        within = [part for part, _, _ in shared.spans]
        tokens = _bounded(shared, masks, ctx)
        for part in bounded:
            if part not in within:
                tokens += (_phrase(part, caption, masks[part.name], ctx),)
        return Fragment(
            text=Conditioning(tokens=tokens), summary=_summary(ctx.scene.caption, layout.parts, ctx), parts=layout.parts
        )

    def _bias_mask(self, part: Part) -> Tensor:
        """[H, W]: how many times each of the region's tokens counts at a pixel."""
        return part.mask.clamp(0, 1) * (self.boost * part.weight)


def _phrase(part: Part, caption: str, bias_mask: Tensor, ctx: Context) -> Tokens:
    """The tokens of a phrase and its end token, of a text of its own behind the caption."""
    text = _joined(caption, part.region.phrase)
    encoded, end = ctx.encode(text, part.name), 1 + _count(text, ctx)
    return _cut(encoded, end - _count(part.region.phrase, ctx), end + 1, bias_mask, part.name)


def _placed(caption: str, parts: Sequence[Part], ctx: Context) -> SharedText:
    """The caption with size, aspect, place and phrase of as many regions as fit; the phrases are bounded."""
    text, spans = caption, []
    for part in parts:
        longer = _joined(text, region_in_words(part.box, part.region.phrase))
        stop = 1 + _count(longer, ctx)
        if stop < ctx.model.text.length:
            text = longer
            spans.append((part, stop - _count(part.region.phrase, ctx), stop))
    return SharedText(text, tuple(spans))


def _bounded(shared: SharedText, masks: dict[str, Tensor], ctx: Context) -> tuple[Tokens, ...]:
    """The shared text as one piece, or cut at the phrases in it."""
    encoded = ctx.encode(shared.text)
    if not shared.spans:
        return (tokens_of(encoded),)
    found, at = [], 0
    for part, start, stop in shared.spans:
        found += [_cut(encoded, at, start), _cut(encoded, start, stop, masks[part.name], part.name)]
        at = stop
    return (*found, _cut(encoded, at, len(encoded.tokens)))


def _cut(
    encoded: EncodedText, start: int, stop: int, bias_mask: Tensor | None = None, region: str | None = None
) -> Tokens:
    """Tokens ``start .. stop`` of a text. bias_mask: [H, W]. region: the name of the region they are about."""
    ids = None if encoded.ids is None else encoded.ids[start:stop]
    return Tokens(encoded.tokens[start:stop], bias_mask=bias_mask, ids=ids, region=region)


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


def _count(text: str, ctx: Context) -> int:
    """The number of tokens of a text's words."""
    return sum(len(ctx.model.text.words(piece.words)) for piece in pieces(text))


def _summary(caption: str, parts: Sequence[Part], ctx: Context) -> str:
    """The caption and as many of the phrases as fit one text: pooled text, and what ControlNets read."""
    text = caption
    for part in parts:
        if _without(text, [part]) == text:
            longer = _joined(text, part.region.phrase)
            text = longer if _count(longer, ctx) <= ctx.model.text.length - 2 else text
    return text
