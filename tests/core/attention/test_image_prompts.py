"""Attention to pictures is its definition, by region and by row."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.attention.image_prompts import ImagePrompts
from cloisonne.core.attention.regional import image_prompt_attention
from cloisonne.core.attention.text_sequences import TextSequence
from cloisonne.core.conditioning import Conditioning, Tokens
from cloisonne.core.plan import Site

HEADS, WIDTH = 2, 8
K, V = torch.randn(WIDTH, 5), torch.randn(WIDTH, 5)


def project(tokens: Tensor) -> tuple[Tensor, Tensor]:
    return tokens @ K.T, tokens @ V.T


def test_is_the_sum_by_soft_masks() -> None:
    grid, site = (3, 4), Site("layer", (3, 4), "cross")
    q, masks = torch.randn(3, 12, WIDTH), torch.rand(3, 6, 8)
    seen = [
        TextSequence(0, torch.randn(4, 5), masks[0]),
        TextSequence(2, torch.randn(4, 5), masks[1]),
        TextSequence(2, torch.randn(4, 5)),
    ]
    expected = torch.zeros_like(q)
    for text in seen:
        weight = 1.0 if text.mask is None else F.adaptive_avg_pool2d(text.mask[None], grid).reshape(12, 1)
        k, v = project(text.value)
        heads = [
            (q[text.row, :, part] @ k[:, part].T / 2).softmax(-1) @ v[:, part] for part in (slice(0, 4), slice(4, 8))
        ]
        expected[text.row] += weight * torch.cat(heads, dim=-1)
    found = image_prompt_attention(q, HEADS, project, site, ImagePrompts(seen))
    torch.testing.assert_close(found, expected)
    assert not found[1].any()


def test_what_is_told_adds_up() -> None:
    first, second = Tokens(torch.zeros(4, 5)), Tokens(torch.zeros(4, 5))
    told = Conditioning(image_prompts=(first,)) + Conditioning() + Conditioning(image_prompts=(second,))
    assert told.image_prompts == (first, second)
    assert repr(told) == "an image prompt of 4 tokens everywhere; an image prompt of 4 tokens everywhere"
