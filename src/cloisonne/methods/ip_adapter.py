"""IP-Adapter: image prompts by region, by cross-attention of their own in every layer.

Ye et al. 2023, arXiv 2308.06721, section 3.2: ``TextAttention + strength * Attn(q; K', V')``; by region (ours), the
second term counts as much as the region does at the pixel. It adds no batch rows: it is part of "cond", and "null" has
the null image in the same places. The region's guidance, or its similarity, which is another name for it here, guides
both.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from cloisonne.core.plan import Conditioning, Tokens
from cloisonne.methods.context import Context
from cloisonne.methods.contribution import Contribution
from cloisonne.methods.layout import Part
from cloisonne.models.model import Model
from cloisonne.scene.region import Region


def contribute(parts: Sequence[Part], ctx: Context) -> Contribution:
    """The regions' exemplars as image prompts of every text-conditioned view."""
    prompted = prompted_parts(parts, ctx)
    if not prompted:
        return Contribution()
    masks = [part.share * strength(part) for part in prompted]
    images = tuple(
        Tokens(_tokens(part.region, ctx), mask=mask, region=part.name)
        for part, mask in zip(prompted, masks, strict=True)
    )
    null = Tokens(_null_tokens(ctx), mask=torch.stack(masks).sum(0))
    return Contribution(cond=Conditioning(image_prompts=images), null=Conditioning(image_prompts=(null,)))


def canvas_options(region: Region, model: Model) -> tuple[str, ...]:
    """The options that a region with an image prompt sets for the text that conditions the canvas there."""
    if model.ip_adapter is None or region.exemplar is None or region.exemplar.strength == 0:
        return ()
    return ("negative", "guidance") if region.negative else ("guidance",)


def prompted_parts(parts: Sequence[Part], ctx: Context) -> list[Part]:
    """The regions whose exemplars are image prompts of an IP-Adapter; none where the model has none."""
    return [part for part in parts if strength(part) > 0] if ctx.model.ip_adapter else []


def strength(part: Part) -> float:
    """How much a region's exemplar counts, in [0, 1]; 0 without one."""
    return 0.0 if part.region.exemplar is None else part.region.exemplar.strength


def _tokens(region: Region, ctx: Context) -> Tensor:
    """[N, D]: the tokens of a region's exemplar."""
    adapter, exemplar = ctx.model.ip_adapter, region.exemplar
    assert adapter is not None, "the model has an IP-Adapter"
    assert exemplar is not None, "the region has an exemplar"
    image = partial(exemplar.rgb, region.name)
    return ctx.encoder.once(("ip-adapter", region.name), lambda: adapter.tokens(image()), partial(_blank_tokens, ctx))


def _null_tokens(ctx: Context) -> Tensor:
    """[N, D]: the tokens of no exemplar."""
    adapter = ctx.model.ip_adapter
    assert adapter is not None, "the model has an IP-Adapter"
    return ctx.encoder.once(("ip-adapter", None), lambda: adapter.null, partial(_blank_tokens, ctx))


def _blank_tokens(ctx: Context) -> Tensor:
    assert ctx.model.ip_adapter is not None, "the model has an IP-Adapter"
    return torch.zeros(ctx.model.ip_adapter.num_tokens, ctx.model.spec.token_width)
