"""Settings of a translation, and their presets (VCT, arXiv 2307.14352). Nothing here needs torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Translating:
    """Settings of a translation.

    Attributes:
        learned: learn the concept from its image as embeddings of the text encoder (textual inversion); otherwise one
            pass of the exemplar encoder gives it.
        pivot: what is optimised to reconstruct the content: "source" (the paper: its text embeddings, to the clean
            latents), "null" (the released code: the null text, to the inversion trajectory) or "none" (ours: stored
            offsets restore it exactly).
        self_attention_share: fraction of the steps in which self-attention is the content's.
        cross_attention_share: fraction of the steps in which cross-attention is the content's.
        features: fraction of the steps in which the decoder's residual features are the content's (ours; plug-and-play,
            arXiv 2211.12572).
        guidance: guidance scale w; None is the model's default.
        steps: sampling steps if the scene gives none.
        vectors: number of embeddings to learn.
        interrogate: do not learn the concept but take it from words (ours): those of the concept's ``word``, or of the
            styles that the model knows, that its segmenter's CLIP finds nearest to the image; without one, those
            under which the image's denoising loss is least (arXiv 2303.16203).
        content_vectors: where the concept is learned, number of embeddings to learn from the content (ours); they
            condition both canvases, and the concept's follow them. 0 conditions the content on an empty text.
        content_rounds: training steps of these.
        rounds: training steps.
        batch: passes per training step.
        rate: learning rate.
        l1: weight of the estimate's absolute error, relative to the noise's squared error.
        flow: translate without inversion, by FlowEdit (arXiv 2412.08629): the content is unguided and has no concept.
        flow_start: fraction of the steps, the last ones, in which the image flows (n_max of the paper, as a fraction).
        n_avg: number of noises per step of FlowEdit, whose differences are averaged.
        patience: stop if the loss has not fallen for so many training steps (ours); 0 never stops early.
    """

    learned: bool
    pivot: Literal["none", "source", "null"]
    self_attention_share: float = 0.9
    cross_attention_share: float = 0.2
    features: float = 0.0
    guidance: float | None = None
    steps: int | None = None
    flow: bool = False
    flow_start: float = 1.0
    n_avg: int = 1
    vectors: int = 3
    interrogate: bool = False
    content_vectors: int = 0
    content_rounds: int = 250
    rounds: int = 500
    batch: int = 4
    rate: float = 2e-3
    l1: float = 1.0
    patience: int = 50


_FLOW = Translating(
    learned=False,
    pivot="none",
    flow=True,
    cross_attention_share=0.0,
    self_attention_share=0.0,
    content_vectors=8,
    rounds=250,
    rate=5e-3,
)
PRESETS: Mapping[str, Translating] = {
    "fast": Translating(learned=False, pivot="none", cross_attention_share=0.0, self_attention_share=0.6),
    "learned": Translating(learned=True, pivot="none", features=0.8),
    "flow": _FLOW,
    "interrogate": replace(_FLOW, learned=True, interrogate=True),
    "vct": Translating(learned=True, pivot="source", guidance=7.5, steps=50),
    "vct-code": Translating(learned=True, pivot="null", guidance=7.5, steps=50),
}
