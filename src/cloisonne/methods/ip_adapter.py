"""IP-Adapter: image prompts by region, by cross-attention of their own in every layer.

Ye et al. 2023, arXiv 2308.06721, section 3.2: ``TextAttention + strength * Attn(q; K', V')``; by region (ours), the
second term counts as much as the region does at the pixel. It adds no batch rows: it is part of "cond", and "null" has
the null image in the same places. The region's guidance, or its similarity, which is another name for it here, guides
both.
"""

from collections.abc import Sequence

import torch

from cloisonne.core.plan import Conditioning, Tokens
from cloisonne.methods.context import Context
from cloisonne.methods.contribution import Contribution
from cloisonne.methods.layout import Part


def contribute(parts: Sequence[Part], ctx: Context) -> Contribution:
    """The regions' exemplars as image prompts of every text-conditioned view."""
    prompted = prompted_parts(parts, ctx)
    if not prompted:
        return Contribution()
    masks = [part.share * strength(part) for part in prompted]
    images = tuple(
        Tokens(ctx.image_tokens(part.region), mask=mask, region=part.name)
        for part, mask in zip(prompted, masks, strict=True)
    )
    null = Tokens(ctx.null_image_tokens(), mask=torch.stack(masks).sum(0))
    return Contribution(cond=Conditioning(image_prompts=images), null=Conditioning(image_prompts=(null,)))


def prompted_parts(parts: Sequence[Part], ctx: Context) -> list[Part]:
    """The regions whose exemplars are image prompts of an IP-Adapter; none where the model has none."""
    return [part for part in parts if strength(part) > 0] if ctx.model.ip_adapter else []


def strength(part: Part) -> float:
    """How much a region's exemplar counts, in [0, 1]; 0 without one."""
    return 0.0 if part.region.exemplar is None else part.region.exemplar.strength
