"""VCT: the subject or style of one picture, carried over to another that keeps its structure.

Cheng et al., "General Image-to-Image Translation with One-Shot Image Guidance", ICCV 2023, arXiv 2307.14352. Two
canvases are denoised from the same inverted noise. The content's has the conditioning that reconstructs it; the other
has the concept's, guided against the content in the space of noise, ``eps = w eps(concept) + (1 - w) eps(content)``,
which is the same sum of estimates; for a fraction of the steps it takes the content's self- and cross-attention.
"""

from collections.abc import Sequence

from cloisonne.core.attention.edits import ShareFeatures, ShareSelf, ShareWords, Until, aligned
from cloisonne.core.plan import AttentionEdit, Interval
from cloisonne.scene.conditions.translation_presets import PRESETS as PRESETS
from cloisonne.scene.conditions.translation_presets import Translating

CONTENT, IMAGE = "content", "image"
"""Names of the two canvases."""
SMALL = 32 * 32
"""Self-attention is shared on grids of at most so many pixels."""


def sharing(translating: Translating, source: Sequence[int], target: Sequence[int]) -> tuple[AttentionEdit, ...]:
    """What the result takes from the content's attention. source, target: token ids of both prompts, or none.

    A concept's own tokens have no counterpart; the result keeps its own attention to them.
    """
    edits: list[AttentionEdit] = []
    if translating.features > 0:
        edits.append(ShareFeatures(source=CONTENT, target=IMAGE, when=Interval(0.0, translating.features)))
    if translating.self_attention_share > 0:
        until = Interval(0.0, translating.self_attention_share)
        edits.append(ShareSelf(source=CONTENT, target=IMAGE, when=until, most=SMALL))
    if translating.cross_attention_share > 0 and source and target:
        mapping = aligned(source, target)
        edits.append(
            ShareWords(source=CONTENT, target=IMAGE, mapping=mapping, ramp=Until(translating.cross_attention_share))
        )
    return tuple(edits)
