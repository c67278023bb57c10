"""Paint by Example: generates the subject of a reference image in a region, in another pose and lighting.

Yang et al., CVPR 2023, arXiv 2211.13227. One view predicts all exemplars of a scene with one row per branch: its
condition is one token per image, and with one token its cross-attention is a bias that does not depend on the pixel,
so that several exemplars are pieces each where its region is (exact for one; ours for several). Where words share the
canvas, the image around the hole is the text network's estimate at that step (``core/inpaint_context.py``; ours).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from cloisonne.core.guidance import Single
from cloisonne.core.inpaint_context import InpaintContext
from cloisonne.core.plan import Conditioning, Tokens, View
from cloisonne.methods.context import Context
from cloisonne.methods.contribution import Contribution
from cloisonne.methods.layout import Part, Placed
from cloisonne.models.model import Model
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


def amount(region: Region) -> float:
    """The fraction of the region's share of the canvas that its exemplar takes, in [0, 1].

    Next to a phrase in the same region, an exemplar of full strength counts as much as the phrase.
    """
    if region.exemplar is None:
        return 0.0
    strength = region.exemplar.strength
    return strength / (1 + strength) if region.phrase else strength


def taken(region: Region, model: Model) -> float:
    """The fraction of a region's share that the network for exemplars takes from text; an IP-Adapter takes none."""
    return amount(region) if model.exemplar is not None else 0.0


def contribute(parts: Sequence[Part], ctx: Context) -> Contribution:
    """The view of all exemplars, with the weight of their regions; nothing without any, or without their network."""
    engine = ctx.model.exemplar
    painted = [part for part in parts if amount(part.region) > 0]
    if not painted or engine is None:
        return Contribution()
    shares = torch.stack([part.share * amount(part.region) for part in painted])
    given = _given(engine.channels(*ctx.encoder.known()), shares, ctx)
    view = View(
        name="exemplars",
        net=engine.net,
        branches={
            "cond": replace(given, tokens=_tokens(painted, shares, ctx)),
            "null": replace(given, tokens=(Tokens(_null_token(ctx)),)),
        },
        guide=ctx.guide(_similarity(painted, shares, ctx.model.native.similarity)),
        weight=torch.ones_like(shares[0]) if ctx.model.image_only else shares.sum(0),
    )
    return Contribution(views=(view,))


def _given(channels: Tensor, shares: Tensor, ctx: Context) -> Conditioning:
    """Masked-image channels [C + 1, H, W], with the hole where exemplars are; the other networks' estimates surround
    it where these predict the rest."""
    unsure = (1 - channels[-1]) * (shares.sum(0) <= 0)
    if ctx.model.image_only or not bool((unsure > 0).any()):
        return Conditioning(channels=channels)
    return Conditioning(inpaint_context=InpaintContext(known=channels[:-1], unsure=unsure, keep=channels[-1] + unsure))


def nothing_painted(ctx: Context) -> View:
    """The whole canvas by the network for exemplars, in steps in which none is active."""
    assert ctx.model.exemplar is not None, "the model has a network for exemplars"
    tokens = (Tokens(_null_token(ctx)),)
    null = Conditioning(tokens=tokens, channels=ctx.model.exemplar.channels(*ctx.encoder.known()))
    weight = torch.ones(ctx.grid, device=ctx.model.device)
    return View(name="exemplars", net=ctx.model.exemplar.net, branches={"cond": null}, guide=Single(), weight=weight)


def _tokens(painted: Sequence[Part], shares: Tensor, ctx: Context) -> tuple[Tokens, ...]:
    """Each image's token where its region is; elsewhere all of them equally, but for those of strict regions."""
    tokens = [_token(part.region, ctx) for part in painted]
    strict = [part.region.strict for part in painted]
    if len(tokens) == 1 and not strict[0]:
        return (Tokens(tokens[0]),)
    nowhere = (shares.sum(0) <= 0).to(shares)
    pieces = tuple(
        Tokens(token, mask=share if within else share + nowhere)
        for token, share, within in zip(tokens, shares, strict, strict=True)
    )
    if not all(strict):
        return pieces
    # If it is the only network, soft edges and weak exemplars fade to the null token.
    left = (1 - shares.sum(0)).clamp_min(0) if ctx.model.image_only else nowhere
    return (*pieces, Tokens(_null_token(ctx), mask=left)) if bool((left > 0).any()) else pieces


def _token(region: Region, ctx: Context) -> Tensor:
    """[1, D]: the token of a region's exemplar."""
    engine, exemplar = ctx.model.exemplar, region.exemplar
    assert engine is not None, "the model has a network for exemplars"
    assert exemplar is not None, "the region has an exemplar"
    image, bottleneck = partial(exemplar.rgb, region.name), exemplar.bottleneck
    token = partial(engine.token, bottleneck=bottleneck)
    return ctx.encoder.once(("exemplar", region.name), lambda: token(image()), partial(_blank_token, ctx))


def _null_token(ctx: Context) -> Tensor:
    """[1, D]: the token of no exemplar."""
    engine = ctx.model.exemplar
    assert engine is not None, "the model has a network for exemplars"
    return ctx.encoder.once(("exemplar", None), lambda: engine.null, partial(_blank_token, ctx))


def _blank_token(ctx: Context) -> Tensor:
    return torch.zeros(1, ctx.model.spec.token_width)


def _similarity(painted: Sequence[Part], shares: Tensor, native: float) -> float | Tensor:
    """The scale of guidance: one number, or a map [H, W] where regions differ."""
    scales = [similarity(part.region, native) for part in painted]
    if len(set(scales)) == 1:
        return scales[0]
    counted = shares + (shares.sum(0) <= 0).to(shares)
    return (counted * counted.new_tensor(scales)[:, None, None]).sum(0) / counted.sum(0)


def idle_bottleneck(scene: Scene, placed: Sequence[Placed], model: Model) -> Iterator[str]:
    """Warnings about exemplars that cannot be reduced to their pooled features on the model."""
    if model.exemplar is not None and model.exemplar.encoder.has_bottleneck:
        return
    for p in placed:
        if p.region.exemplar is not None and p.region.exemplar.bottleneck:
            yield (
                f'Region "{p.name}": the bottleneck of its exemplar changes nothing here; load a model with an '
                "exemplar network, such as the built-in one, or omit it."
            )


def similarity(region: Region, native: float) -> float:
    """The region's guidance scale of its exemplar; the model's own if it is not given."""
    given = region.guidance if region.similarity is None else region.similarity
    return native if given is None else given
