"""Joint attention by groups equals its dense definition, and without regions diffusers' own."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.attention.joint import (
    JointLayout,
    Segment,
    dense_joint_attention,
    image_groups,
    joint_attention,
    query_groups,
)
from cloisonne.core.attention.regional import dense
from cloisonne.core.attention.text_sequences import TextSequence, TextSequences
from cloisonne.core.plan import Site

PIXELS = 12
IMAGE_FIRST, TEXT_FIRST = (0, PIXELS), (9, 9 + PIXELS)
WEIGHTS = {
    "hard": ([1] * 5 + [0] * 7, [0] * 6 + [1] * 6),
    "overlapping": ([1] * 8 + [0] * 4, [0] * 4 + [1] * 8),
    "soft": ([0.3] * 4 + [0.7] * 4 + [0] * 4, [0] * 6 + [1, 1, 0.5, 0.5, 2, 2]),
    "empty": ([0] * 12, [1] * 12),
    "everywhere": ([1] * 12, [1] * 12),
}


def layout(weights: tuple[list[float], list[float]], image: tuple[int, int], isolated: bool) -> JointLayout:
    first = PIXELS if image == IMAGE_FIRST else 0
    one, two = (torch.tensor(own, dtype=torch.float32) for own in weights)
    segments = (Segment(first, first + 4), Segment(first + 4, first + 6, one), Segment(first + 6, first + 9, two))
    return JointLayout(segments=segments, image=image, isolated=isolated)


def tensors(length: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 3, length, 8, generator=rng) for _ in range(3))  # type: ignore[return-value]


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("image", [IMAGE_FIRST, TEXT_FIRST], ids=["image first", "text first"])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_groups_equal_the_definition(weights: str, image: tuple[int, int], isolated: bool) -> None:
    given = layout(WEIGHTS[weights], image, isolated)
    q, k, v = tensors(given.length)
    found = joint_attention(q, k, v, query_groups(given))
    torch.testing.assert_close(found, dense_joint_attention(q, k, v, given), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("image", [IMAGE_FIRST, TEXT_FIRST], ids=["image first", "text first"])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_image_tokens_alone_equal_the_definition(weights: str, image: tuple[int, int], isolated: bool) -> None:
    given = layout(WEIGHTS[weights], image, isolated)
    own = given.bias()[image[0] : image[1], image[0] : image[1]]
    q, k, v = tensors(PIXELS)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=own)
    torch.testing.assert_close(joint_attention(q, k, v, image_groups(given)), expected, rtol=1e-5, atol=1e-6)


def test_every_query_is_in_one_group() -> None:
    given = layout(WEIGHTS["soft"], TEXT_FIRST, True)
    queries = torch.cat([group.queries for group in query_groups(given)])
    assert sorted(queries.tolist()) == list(range(given.length))


@pytest.mark.parametrize("key", range(21))
def test_who_attends_to_whom(key: int) -> None:
    """Changing one token changes exactly the tokens that may attend to it."""
    given = layout(WEIGHTS["hard"], TEXT_FIRST, False)
    q, k, v = tensors(given.length)
    other = v.clone()
    other[:, :, key] += 1
    groups = query_groups(given)
    moved = (joint_attention(q, k, v, groups) != joint_attention(q, k, other, groups)).any(-1).any(1).any(0)
    caption, first, second = set(range(4)), {4, 5}, {6, 7, 8}
    of_first, of_second = set(range(9, 14)), set(range(15, 21))
    image = set(range(9, 21))
    expected = {
        "caption": caption | image,
        "first": caption | first | of_first,
        "second": caption | second | of_second,
        "pixel": caption | image | (first if key in of_first else set()) | (second if key in of_second else set()),
    }
    kind = next((n for n, s in zip(expected, (caption, first, second), strict=False) if key in s), "pixel")
    assert set(moved.nonzero().flatten().tolist()) == expected[kind]


def test_isolated_regions_see_their_own_pixels_only() -> None:
    given = layout(WEIGHTS["overlapping"], TEXT_FIRST, True)
    allowed = given.bias()[9:, 9:] > -torch.inf
    one, two = (torch.tensor(own) > 0 for own in WEIGHTS["overlapping"])
    for p, r in itertools.product(range(PIXELS), repeat=2):
        assert bool(allowed[p, r]) == bool((one[p] and one[r]) or (two[p] and two[r]))


def test_a_weight_counts_a_token_as_often() -> None:
    """Weight 2 is the softmax over a sequence in which the phrase stands twice."""
    weight = torch.full((PIXELS,), 2.0)
    q, k, v = tensors(PIXELS + 3)
    once = JointLayout((Segment(0, 3, weight),), (3, 3 + PIXELS))
    keys, values = (torch.cat([x[:, :, :3], x], 2) for x in (k, v))
    expected = F.scaled_dot_product_attention(q[:, :, 3:], keys, values)
    found = joint_attention(q, k, v, query_groups(once))[:, :, 3:]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_counted_token_is_a_token_that_stands_there_as_often() -> None:
    """For image tokens, within weights and masks; what texts attend to stays as it is."""
    weight = torch.tensor([0.0] * 4 + [1.0] * 4 + [0.5] * 4)
    plain = JointLayout((Segment(0, 4), Segment(4, 8, weight)), (8, 8 + PIXELS))
    counted = JointLayout((Segment(0, 4), Segment(4, 8, weight, ((1, 3, 3.0),))), plain.image)
    again = (Segment(0, 4), Segment(4, 8, weight), Segment(8, 10, weight), Segment(10, 12, weight))
    q, k, v = tensors(counted.length)
    found = joint_attention(q, k, v, query_groups(counted))
    longer = [torch.cat([x[:, :, :8], x[:, :, 5:7], x[:, :, 5:7], x[:, :, 8:]], 2) for x in (q, k, v)]
    expected = joint_attention(*longer, query_groups(JointLayout(again, (12, 12 + PIXELS))))
    torch.testing.assert_close(found[:, :, 8:], expected[:, :, 12:], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found[:, :, 12:], joint_attention(q, k, v, query_groups(plain))[:, :, 12:], atol=1e-3)
    assert torch.equal(found[:, :, :8], joint_attention(q, k, v, query_groups(plain))[:, :, :8])


def test_text_of_a_region_is_its_softmax_where_nothing_else_is_attended_to() -> None:
    """With image keys that take no part, joint attention is the attention of cross-attention layers by region."""
    counts = ((2, 4, 50.0),)
    masks = [torch.tensor(own, dtype=torch.float32) for own in WEIGHTS["hard"]]
    rest = 1 - sum(masks)
    segments = (Segment(0, 4, rest), Segment(4, 9, masks[0], counts), Segment(9, 14, masks[1], counts))
    given = JointLayout(segments, (14, 14 + PIXELS))
    q, k, v = tensors(given.length)
    bias = given.bias()
    bias[14:, 14:] = -torch.inf
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)[:, :, 14:]
    own_masks = [own.weight.view(3, 4) for own in segments if own.weight is not None]
    texts = TextSequences(
        [
            TextSequence(0, torch.full((own.stop - own.start, 1), float(own.start)), mask, counts=own.counts)
            for own, mask in zip(segments, own_masks, strict=True)
        ],
        1,
    )

    def project(tokens: Tensor) -> tuple[Tensor, Tensor]:
        start = int(tokens[0, 0, 0])
        first, second = (x[0, :, start : start + tokens.shape[1]].transpose(0, 1).reshape(1, -1, 24) for x in (k, v))
        return first, second

    own_q = q[:1, :, 14:].transpose(1, 2).reshape(1, PIXELS, 24)
    expected = dense(own_q, 3, project, Site("layer", (3, 4), "cross"), texts)
    torch.testing.assert_close(found[0].transpose(0, 1).reshape(PIXELS, 24), expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["flux", "sd3"])
def test_without_regions_it_is_diffusers(kind: str) -> None:
    torch.manual_seed(0)
    text, image = torch.randn(2, 5, 16), torch.randn(2, 9, 16)
    if kind == "flux":
        from diffusers.models.transformers.transformer_flux import FluxAttention

        attention = FluxAttention(16, heads=2, dim_head=8, added_kv_proj_dim=16, out_dim=16, context_pre_only=False)
        norms = (attention.norm_q, attention.norm_k, attention.norm_added_q, attention.norm_added_k)
    else:
        from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0

        attention = Attention(
            query_dim=16,
            added_kv_proj_dim=16,
            dim_head=8,
            heads=2,
            out_dim=16,
            context_pre_only=False,
            bias=True,
            processor=JointAttnProcessor2_0(),
        )
        norms = (None,) * 4
    own, added = attention(image, encoder_hidden_states=text)
    names = (("to_q", "add_q_proj", 0, 2), ("to_k", "add_k_proj", 1, 3), ("to_v", "add_v_proj", None, None))
    parts = []
    for of_image, of_text, norm_image, norm_text in names:
        split = [
            x.view(2, -1, 2, 8).transpose(1, 2)
            for x in (getattr(attention, of_image)(image), getattr(attention, of_text)(text))
        ]
        places = (norm_image, norm_text)
        normed = [
            x if place is None or norms[place] is None else norms[place](x)
            for x, place in zip(split, places, strict=True)
        ]
        parts.append(torch.cat(normed[::-1] if kind == "flux" else normed, 2))
    text_first = kind == "flux"
    plain = JointLayout((Segment(0, 5) if text_first else Segment(9, 14),), (5, 14) if text_first else (0, 9))
    out = joint_attention(*parts, query_groups(plain)).transpose(1, 2).reshape(2, 14, 16)
    pieces = (out[:, 5:], out[:, :5]) if text_first else (out[:, :9], out[:, 9:])
    torch.testing.assert_close(attention.to_out[0](pieces[0]), own, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(attention.to_add_out(pieces[1]), added, rtol=1e-5, atol=1e-6)
