"""IP-Adapter: a region looks at a picture beside its words, by attention of its own in every layer.

Ye et al. 2023, arXiv 2308.06721, section 3.2: ``TextAttention + strength * Attn(q; K', V')``; by region (ours), the
second term counts as much as the region does at the pixel. It adds no rows: what a view is told tells of the pictures
too, and its null branch looks at no picture in the same places. The region's guidance, or its similarity, which is
another name for it here, guides both.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from cloisonne.core.plan import Conditioning, Tokens
from cloisonne.methods.context import Context
from cloisonne.methods.layout import Part


def with_pictures(parts: Sequence[Part], ctx: Context) -> Context:
    """The context in which the views of the network that hears words also look at the regions' exemplars."""
    shown = shown_parts(parts, ctx)
    if not shown:
        return ctx
    where = [part.share * strength(part) for part in shown]
    pictures = tuple(Tokens(ctx.picture(part.region), where=own) for part, own in zip(shown, where, strict=True))
    nothing = Tokens(ctx.no_picture(), where=torch.stack(where).sum(0))
    return replace(ctx, seen=Conditioning(pictures=pictures), unseen=Conditioning(pictures=(nothing,)))


def shown_parts(parts: Sequence[Part], ctx: Context) -> list[Part]:
    """The regions whose exemplars an IP-Adapter shows; none where the model has none."""
    return [part for part in parts if strength(part) > 0] if ctx.model.ip_adapter else []


def strength(part: Part) -> float:
    """How much a region's exemplar counts, in [0, 1]; 0 without one."""
    return 0.0 if part.region.exemplar is None else part.region.exemplar.strength
