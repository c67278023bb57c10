"""The methods that ReCo is compared with: the caption alone, places in words, masked attention, MultiDiffusion."""

from collections.abc import Sequence

from cloisonne.core.plan import Conditioning, View
from cloisonne.errors import SceneError
from cloisonne.methods.base import Fragment, within_budget
from cloisonne.methods.context import Context, tokens_of
from cloisonne.methods.layout import Layout, Placed
from cloisonne.methods.reco import cleaned
from cloisonne.models.text.encoder import EncodedText
from cloisonne.scene.prompt import written
from cloisonne.scene.region import Region
from cloisonne.scene.shapes.geometry import Box
from cloisonne.scene.shapes.place_words import described_place


class Caption:
    """The caption alone, as if there were no regions but for their seeds."""

    def fitting(self, placed: Sequence[Placed], ctx: Context) -> list[Placed]:
        return list(placed)

    def compile(self, layout: Layout, ctx: Context) -> Fragment:
        text = Conditioning(tokens=(tokens_of(ctx.encoder.text(ctx.scene.caption)),))
        return Fragment(text=text, summary=ctx.scene.caption)


class Words:
    """Regions as place words behind the caption, without position tokens: PosWord (arXiv 2211.15518, section 4)."""

    def fitting(self, placed: Sequence[Placed], ctx: Context) -> list[Placed]:
        room = ctx.model.text.capacity - (count := _count(ctx.scene.caption, ctx))
        if room < 0:
            raise SceneError(
                f'The caption takes {count} tokens, but the method "words" reads at most {ctx.model.text.capacity} '
                "with the regions; shorten it, or choose the method bounded."
            )
        # One token more where there is no caption before the first comma.
        costs = [_count(f"a, {region_in_words(p.box, p.region.phrase)}", ctx) - 1 for p in placed]
        return within_budget(placed, costs, room)

    def compile(self, layout: Layout, ctx: Context) -> Fragment:
        in_words = scene_in_words(ctx.scene.caption, [(part.box, part.region.phrase) for part in layout.parts])
        text = written(cleaned(in_words, ctx.model.text.learned))
        conditioning = Conditioning(tokens=(tokens_of(ctx.encoder.text(text)),))
        return Fragment(text=conditioning, summary=text, parts=layout.parts)


def _count(text: str, ctx: Context) -> int:
    """The tokens of a text's words, without those of its weights."""
    encoder = ctx.model.text
    return sum(encoder.count(piece.words) for piece in cleaned(text, encoder.learned))


def region_in_words(box: Box, phrase: str) -> str:
    """A region in the text of Words: "small square in the top left, a doughnut"."""
    return f"{described_place(box)}, {phrase}"


def scene_in_words(caption: str, regions: Sequence[tuple[Box, str]]) -> str:
    """The text of Words; regions in canonical order."""
    return ", ".join(filter(None, [caption, *(region_in_words(box, phrase) for box, phrase in regions)]))


class Attention:
    """Masked attention, no training: each pixel attends to the texts of its regions, ``caption, phrase``.

    The outputs of their softmaxes are averaged by the regions' shares; pixels of no region attend to the caption.
    """

    def fitting(self, placed: Sequence[Placed], ctx: Context) -> list[Placed]:
        return list(placed)

    def compile(self, layout: Layout, ctx: Context) -> Fragment:
        caption = tokens_of(ctx.encoder.text(ctx.scene.caption), layout.rest if layout.parts else None)
        own = [tokens_of(_prompt(part.region, ctx), part.share, part.name) for part in layout.parts]
        text = Conditioning(tokens=(caption, *own))
        return Fragment(text=text, summary=ctx.scene.caption or _summary(layout, ctx), parts=layout.parts)


class MultiDiffusion:
    """A prediction of the whole canvas for each region, averaged by the regions' shares (arXiv 2302.08113, eq. 5).

    Costs two rows a region at each step; what no region covers follows the caption's prediction.
    """

    def fitting(self, placed: Sequence[Placed], ctx: Context) -> list[Placed]:
        return list(placed)

    def compile(self, layout: Layout, ctx: Context) -> Fragment:
        text = Conditioning(tokens=(tokens_of(ctx.encoder.text(ctx.scene.caption)),))
        views = tuple(
            View(
                name=f"region {part.name}",
                region=part.name,
                net=ctx.model.net,
                branches={
                    "cond": Conditioning(tokens=(tokens_of(_prompt(part.region, ctx), region=part.name),))
                    + ctx.summary(ctx.scene.region_prompt(part.region)),
                    "null": Conditioning(tokens=(tokens_of(ctx.encode_negative(part.region)),))
                    + ctx.negative_summary(part.region),
                },
                guide=ctx.guide(ctx.guidance(part.region)),
                weight=part.share,
            )
            for part in layout.parts
        )
        return Fragment(text=text, summary=ctx.scene.caption, views=views)


def _summary(layout: Layout, ctx: Context) -> str:
    """As many of the regions' phrases as fit one text."""
    text = ""
    for part in layout.parts:
        longer = ", ".join(filter(None, [text, part.region.phrase]))
        text = longer if _count(longer, ctx) <= ctx.model.text.capacity else text
    return text


def _prompt(region: Region, ctx: Context) -> EncodedText:
    """The prompt of a region's part of the canvas."""
    return ctx.encoder.text(ctx.scene.region_prompt(region), region.name)
