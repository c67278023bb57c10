"""Regions on diffusion transformers: isolated texts in one joint attention.

One sequence holds the caption, the phrase of each region, encoded alone, and the image. A phrase attends to itself and
to the image tokens of its region; an image token attends to the caption, to the phrases of its regions and to the
image; the caption attends to everything. These are the masks of 3DIS-FLUX (arXiv 2501.05131, section 3.2), whose
ablation says that the isolation of texts and an image token's own text decide, and that isolating the image tokens of
regions in the first steps helps.

A region's share w of an image token counts its phrase w times there: ``log w`` is added to the logits, in one softmax.
Phrases leave out their padding, since hundreds of padding tokens of each would outweigh the image. The caption keeps
its own, as the network was trained.
"""

from collections.abc import Sequence

from cloisonne.core.plan import Conditioning, Tokens
from cloisonne.methods.base import Fragment
from cloisonne.methods.context import Context, tokens_of
from cloisonne.methods.layout import Layout, Part, Placed
from cloisonne.scene.prompt import pieces


class Isolated:
    """The caption and the regions' phrases as isolated texts of one joint attention."""

    def fitting(self, placed: Sequence[Placed], ctx: Context) -> list[Placed]:
        """All: each region has a text of its own."""
        return list(placed)

    def compile(self, layout: Layout, ctx: Context) -> Fragment:
        """The caption, and each phrase where its region is.

        Without a caption, the phrase of a region that alone takes the whole canvas is the caption.
        """
        caption, parts = ctx.scene.caption, layout.parts
        if not caption and len(parts) == 1 and bool((parts[0].share == 1).all()):
            whole = parts[0].region
            text = Conditioning(tokens=(tokens_of(ctx.encoder.text(whole.phrase, whole.name), region=whole.name),))
            return Fragment(text=text, summary=whole.phrase, parts=parts)
        text = Conditioning(
            tokens=(tokens_of(ctx.encoder.text(caption)), *(_phrase(part, ctx) for part in parts)),
            joint=ctx.joint_options() if parts else None,
        )
        return Fragment(text=text, summary=caption or _summary(parts, ctx), parts=parts)


def _phrase(part: Part, ctx: Context) -> Tokens:
    encoded = ctx.encoder.text(part.region.phrase, part.name)
    return Tokens(encoded.without_padding, mask=part.share, region=part.name)


def _summary(parts: Sequence[Part], ctx: Context) -> str:
    """As many of the phrases as fit one text."""
    text = ""
    for part in parts:
        longer = ", ".join(filter(None, [text, part.region.phrase]))
        fits = sum(ctx.model.text.count(piece.words) for piece in pieces(longer)) <= ctx.model.text.capacity
        text = longer if fits else text
    return text
