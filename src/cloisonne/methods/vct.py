"""VCT: the subject or style of one picture, carried over to another that keeps its structure.

Cheng et al., "General Image-to-Image Translation with One-Shot Image Guidance", ICCV 2023, arXiv 2307.14352. Two
canvases walk from the same inverted noise. That of the content is told what brings it back; the other one the concept,
guided against the content in the space of noise, ``eps = w eps(concept) + (1 - w) eps(content)``, which is the same
sum of estimates; for a part of the walk it looks at itself, and at its words, as the content does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cloisonne.core.edits import ShareFeatures, ShareSelf, ShareWords, Until, aligned
from cloisonne.core.plan import AttentionEdit, Interval

CONTENT, IMAGE = "content", "image"
"""Names of the two canvases."""
SMALL = 32 * 32
"""Self-attention is shared on grids of at most so many pixels."""


@dataclass(frozen=True, kw_only=True)
class Translating:
    """A way of translating.

    learned: the concept is fitted to its picture by ``vectors`` of the text encoder, in ``rounds`` steps of ``batch``
    passes, with weight ``l1`` of the estimate's absolute error beside the noise's, and ends where
    in ``patience`` rounds the loss has not fallen (ours; 0: never); otherwise one pass of an encoder of
    exemplars gives it. pivot: what is fitted of the content, "source" (the paper: its words, to the clean canvas),
    "null" (the released code: the null text, to the path) or "none" (ours: stored offsets put it back exactly).
    looks, words: shares of the walk in which self- and cross-attention are the content's. features: the same of what
    the decoder's residual blocks add (ours; plug-and-play, arXiv 2211.12572). guidance: w; None is the model's own.
    steps: of the walk, if the scene says nothing.
    """

    learned: bool
    pivot: Literal["none", "source", "null"]
    looks: float = 0.9
    words: float = 0.2
    features: float = 0.0
    guidance: float | None = None
    steps: int | None = None
    vectors: int = 3
    rounds: int = 500
    batch: int = 4
    rate: float = 2e-3
    l1: float = 1.0
    patience: int = 50


PRESETS: Mapping[str, Translating] = {
    "fast": Translating(learned=False, pivot="none", words=0.0, looks=0.6),
    "learned": Translating(learned=True, pivot="none", features=0.8),
    "vct": Translating(learned=True, pivot="source", guidance=7.5, steps=50),
    "vct-code": Translating(learned=True, pivot="null", guidance=7.5, steps=50),
}


def sharing(translating: Translating, source: Sequence[int], target: Sequence[int]) -> tuple[AttentionEdit, ...]:
    """How the canvas of the result looks as the content does. source, target: tokens of what both are told, or none.

    A concept's own tokens have no counterpart, and are looked at as the result itself would.
    """
    edits: list[AttentionEdit] = []
    if translating.features > 0:
        edits.append(ShareFeatures(source=CONTENT, target=IMAGE, when=Interval(0.0, translating.features)))
    if translating.looks > 0:
        until = Interval(0.0, translating.looks)
        edits.append(ShareSelf(source=CONTENT, target=IMAGE, when=until, most=SMALL))
    if translating.words > 0 and source and target:
        mapping = aligned(source, target)
        edits.append(ShareWords(source=CONTENT, target=IMAGE, mapping=mapping, ramp=Until(translating.words)))
    return tuple(edits)
