"""Paint by Example: a region is filled with the subject of a picture, in a pose and light of its own.

Yang et al., CVPR 2023, arXiv 2211.13227. One network paints all exemplars of a scene in one row a branch: it hears one
token a picture, and with one token its cross-attention is a bias that does not depend on the pixel, so that several
exemplars are heard each where its region is (exact for one; ours for several).
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from cloisonne.core.plan import Conditioning, Tokens, View
from cloisonne.methods.context import Context
from cloisonne.methods.layout import Part
from cloisonne.scene.region import Region


def amount(region: Region) -> float:
    """How much of the region's share of the canvas its exemplar paints, in [0, 1].

    Against a phrase in the same region, a full exemplar counts as much as the words.
    """
    if region.exemplar is None:
        return 0.0
    strength = region.exemplar.strength
    return strength / (1 + strength) if region.phrase else strength


def exemplar_view(parts: Sequence[Part], ctx: Context) -> View | None:
    """The view of all exemplars, counting where their regions do; None without any."""
    engine = ctx.model.exemplar
    painted = [part for part in parts if amount(part.region) > 0]
    if not painted or engine is None:
        return None
    shares = torch.stack([part.share * amount(part.region) for part in painted])
    channels = engine.channels(*ctx.hole)
    null = Conditioning(tokens=(Tokens(ctx.no_picture()),), channels=channels)
    return View(
        name="exemplars",
        net=engine.net,
        branches={"cond": Conditioning(tokens=_heard(painted, shares, ctx), channels=channels), "null": null},
        guide=ctx.guide(_similarity(painted, shares, ctx.model.native.similarity)),
        weight=torch.ones_like(shares[0]) if ctx.model.wordless else shares.sum(0),
    )


def _heard(painted: Sequence[Part], shares: Tensor, ctx: Context) -> tuple[Tokens, ...]:
    """Each picture's token where its region is; where none is, all of them alike."""
    tokens = [ctx.picture(part.region) for part in painted]
    if len(tokens) == 1:
        return (Tokens(tokens[0]),)
    nowhere = (shares.sum(0) <= 0).to(shares)
    return tuple(Tokens(token, where=share + nowhere) for token, share in zip(tokens, shares, strict=True))


def _similarity(painted: Sequence[Part], shares: Tensor, native: float) -> float | Tensor:
    """The scale of guidance: one number, or a map [H, W] where regions differ."""
    scales = [similarity(part.region, native) for part in painted]
    if len(set(scales)) == 1:
        return scales[0]
    counted = shares + (shares.sum(0) <= 0).to(shares)
    return (counted * counted.new_tensor(scales)[:, None, None]).sum(0) / counted.sum(0)


def similarity(region: Region, native: float) -> float:
    """The region's guidance by its exemplar, where it leaves it out the model's own."""
    given = region.guidance if region.similarity is None else region.similarity
    return native if given is None else given


def unused(region: Region) -> Iterable[str]:
    """Fields of a region with an exemplar alone that have no effect."""
    if region.negative:
        yield "negative"
    if region.strict:
        yield "strict"
