"""The one place where attention is computed: self-attention, text project by region, and edits of either.

Without edits and masks the result is bit-identical to diffusers' ``AttnProcessor2_0``. Shapes: R rows, Q queries,
K keys, C = heads * d channels; ``q`` is what the layer's projection returned, heads not yet split.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.attention.image_prompts import ImagePrompts
from cloisonne.core.attention.shared_softmax import shared_softmax
from cloisonne.core.attention.text_sequences import Projection, TextSequences
from cloisonne.core.plan import AttentionEdit, AttentionTerm, Call, Site
from cloisonne.core.region_lora import LoraScales
from cloisonne.errors import CapabilityError

TextAttention = Callable[[Tensor, int, Projection, Site, TextSequences], Tensor]
"""(q [R, Q, C], heads, project, site, texts) -> [R, Q, C]; :func:`gathered` or its oracle :func:`dense`."""


def self_attention(
    q: Float[Tensor, "R Q C"], k: Float[Tensor, "R K C"], v: Float[Tensor, "R K C"], heads: int, site: Site, call: Call
) -> Float[Tensor, "R Q C"]:
    """Attention of every row to itself, [R, Q, C]."""
    edits = _touching(site, call)
    if not edits:
        return _merge(F.scaled_dot_product_attention(_split(q, heads), _split(k, heads), _split(v, heads)))
    return _edited(_split(q, heads), _split(k, heads), _split(v, heads), site, call, edits)


def text_attention(
    q: Float[Tensor, "R Q C"], heads: int, project: Projection, site: Site, call: Call, attend: TextAttention
) -> Float[Tensor, "R Q C"]:
    """Attention of every pixel to its texts, [R, Q, C]; each text has its own softmax."""
    edits = _touching(site, call)
    if not edits:
        return attend(q, heads, project, site, call.texts)
    k, v = call.texts.by_row(site.layer, _splitting(project, heads))
    return _edited(_split(q, heads), k, v, site, call, edits, None if call.texts.uniform else call.texts)


def is_bias(site: Site, call: Call) -> bool:
    """Whether :func:`text_bias` is all that a layer gives: texts of one token, no edits, no image prompts, no LoRAs."""
    return call.texts.single and call.image_prompts is None and call.loras is None and not _touching(site, call)


def text_bias(project: Callable[[Tensor], Tensor], site: Site, texts: TextSequences) -> Float[Tensor, "R Q C"]:
    """[R, Q, C]: the attention output of texts of one token each, which does not depend on the queries.

    A softmax of one logit is 1, so that attention is ``sum_r w_r(p) project(token_r)``; project: tokens [T, 1, D] to
    [T, 1, C], values and output projection of the layer. Computed once a run and layer, but for the sum by masks.
    """
    values, shares = texts.by_token(site.layer, project), texts.shares(site.grid)
    out = values.new_zeros(texts.num_rows, shares.shape[1], values.shape[-1])
    for text, value, share in zip(texts.texts, values, shares.to(values), strict=True):
        out[text.row] += share[:, None] * value
    return out


def image_prompt_attention(
    q: Float[Tensor, "R Q C"], heads: int, project: Projection, site: Site, prompts: ImagePrompts
) -> Float[Tensor, "R Q C"]:
    """[R, Q, C] to add to the attention to texts: ``sum_k w_k(p) Attn(q_p; K_k, V_k)``; edits do not touch it."""
    k, v = prompts.projected(site.layer, _splitting(project, heads))
    attended = _merge(F.scaled_dot_product_attention(_split(q[list(prompts.rows)], heads), k, v))
    out = torch.zeros_like(q)
    # One after the other: index_add_ adds in no fixed order on a GPU.
    for row, weight, own in zip(prompts.rows, prompts.weights(site.grid).to(q.dtype), attended, strict=True):
        out[row] += weight[:, None] * own
    return out


def gathered(
    q: Float[Tensor, "R Q C"], heads: int, project: Projection, site: Site, texts: TextSequences
) -> Float[Tensor, "R Q C"]:
    """Sort the pixels by text, attend each text with its own pixels, sort back: work follows coverage, not texts."""
    table = texts.gathering(site.grid)
    rows, _, channels = q.shape
    pixels = table.sort(q.reshape(-1, channels))
    keys_values = texts.by_block(site.layer, site.grid, _splitting(project, heads))
    attended: list[Tensor] = []
    for block, (k, v) in zip(table.blocks, keys_values, strict=True):
        queries = pixels[block.start : block.stop].view(len(block.texts), block.queries, channels)
        bias = None if block.bias is None else block.bias.to(q.dtype)
        out = F.scaled_dot_product_attention(_split(queries, heads), k, v, attn_mask=bias)
        attended.append(_merge(out).view(-1, channels))
    return table.unsort(attended[0] if len(attended) == 1 else torch.cat(attended)).view(rows, -1, channels)


def dense(
    q: Float[Tensor, "R Q C"], heads: int, project: Projection, site: Site, texts: TextSequences
) -> Float[Tensor, "R Q C"]:
    """The definition: every pixel of a row attends to every text of the row, averaged by the masks.

    ``out(p) = sum_r w_r(p) Attn(q_p; K_r, V_r) / sum_r w_r(p)``; the oracle of :func:`gathered`.
    """
    out = torch.zeros_like(q)
    shares, biases = texts.shares(site.grid), texts.biases(site.grid)
    keys_values = texts.by_text(site.layer, _splitting(project, heads))
    for i, (text, (k, v)) in enumerate(zip(texts.texts, keys_values, strict=True)):
        query = _split(q[text.row : text.row + 1], heads)
        bias = None if (b := biases[i]) is None else b.to(q.dtype)
        attended = F.scaled_dot_product_attention(query, k, v, attn_mask=bias)
        out[text.row] += shares[i][:, None].to(q.dtype) * _merge(attended)[0]
    return out


def _edited(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    site: Site,
    call: Call,
    edits: tuple[AttentionEdit, ...],
    texts: TextSequences | None = None,
) -> Tensor:
    """Attention under edits; the fused kernel serves where no edit wants probabilities and texts have no masks."""
    terms, pairs = list[AttentionTerm](), list[tuple[int, int]]()
    for edit in edits:
        terms += edit.terms(q, k, v, site, call)
        pairs += edit.query_key_donors(site, call)
        q, k, v = edit.qkv(q, k, v, site, call)
    readers = [edit for edit in edits if edit.wants_probs(site, call)]
    if not readers and texts is None:
        out = (
            shared_softmax(q, k, v, pairs, cross=site.cross)
            if pairs
            else _merge(F.scaled_dot_product_attention(q, k, v))
        )
        for term in terms:
            out[list(term.rows)] += _merge(F.scaled_dot_product_attention(term.q, term.k, term.v))
        return out
    if terms:
        raise CapabilityError(
            "An edit of attention between canvases met regions that share a canvas's words; give each region a view of "
            "its own (the method multidiffusion)."
        )
    if pairs:
        leader = {b: a for a, b in pairs}
        rows = [leader.get(i, i) for i in range(len(q))]
        q, k = q[rows], k[rows]
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    p = logits.softmax(-1) if texts is None else softmax_by_text(logits, site, texts)
    for edit in readers:
        p = edit.probs(p, site, call)
    return _merge(p @ v)


def softmax_by_text(logits: Tensor, site: Site, texts: TextSequences) -> Tensor:
    """[R, heads, Q, K]: softmax over each text's own tokens, times the text's share; padding gets 0."""
    p = torch.zeros_like(logits)
    shares, biases = texts.shares(site.grid), texts.biases(site.grid)
    for i, (text, (start, stop)) in enumerate(zip(texts.texts, texts.spans(), strict=True)):
        own = logits[text.row, :, :, start:stop]
        own = own if (bias := biases[i]) is None else own + bias.to(own.dtype)
        p[text.row, :, :, start:stop] = own.softmax(-1) * shares[i][:, None].to(own.dtype)
    return p


def _touching(site: Site, call: Call) -> tuple[AttentionEdit, ...]:
    return tuple(edit for edit in call.edits if edit.touches(site, call))


def _splitting(project: Projection, heads: int) -> Projection:
    """The projection with its heads split, [T, heads, N, d]: what is stored for the run."""

    def split(tokens: Tensor, loras: Sequence[LoraScales] = ()) -> tuple[Tensor, Tensor]:
        k, v = project(tokens, loras) if loras else project(tokens)
        return _split(k, heads), _split(v, heads)

    return split


def _split(x: Tensor, heads: int) -> Tensor:
    """[B, L, heads * d] to [B, heads, L, d]."""
    batch, length, channels = x.shape
    return x.view(batch, length, heads, channels // heads).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    """[B, heads, L, d] to [B, L, heads * d]."""
    batch, heads, length, width = x.shape
    return x.transpose(1, 2).reshape(batch, length, heads * width)
