"""The settings of a translation, and the presets of them (VCT, arXiv 2307.14352). No tensors here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


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
