"""Attention with what another row stores equals one dense softmax over the tokens it stands for."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cloisonne.core.attention.joint import JointLayout, Segment, dense_joint_attention, joint_attention, query_groups
from cloisonne.core.attention.joint_blocks import BlockGroups
from cloisonne.core.attention.row_exchange import RowExchange, Stored, reduced

Q, WIDTH = 12, 8
WEIGHTS = torch.tensor([0.0, 1.0, 0.5] * 4), torch.tensor([1.0] * 5 + [0.0] * 7)
COMPUTED = torch.tensor([1, 2, 3, 7, 10])
OTHERS = torch.tensor([i for i in range(Q) if i not in COMPUTED.tolist()])


def layout(order: str, *, isolated: bool = False, plain: bool = False) -> JointLayout:
    """A caption and two phrases, before or after the image; or a caption alone."""
    first = 0 if order == "text first" else Q
    bounds = [(0, 4), (4, 7), (7, 9)][: 1 if plain else 3]
    weights = (None, *WEIGHTS)
    segments = tuple(
        Segment(first + start, first + stop, weight, counts=((0, 2, 3.0),) if weight is None and not plain else ())
        for (start, stop), weight in zip(bounds, weights, strict=False)
    )
    start = bounds[-1][1] if order == "text first" else 0
    return JointLayout(segments, (start, start + Q), isolated)


def random(count: int, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(1, 2, count, WIDTH, generator=generator) for _ in range(3))


@pytest.mark.parametrize("order", ["text first", "image first"])
@pytest.mark.parametrize("kind", [{}, {"isolated": True}, {"plain": True}], ids=["regions", "isolated", "caption"])
def test_a_background_is_the_source_s_keys_and_values(order: str, kind: dict[str, Any]) -> None:
    own = layout(order, **kind)
    first, last = own.image
    image = torch.arange(first, last)
    q, k, v = random(own.length, 0)
    stored = Stored(background=OTHERS)
    source = RowExchange((first, last), stored=stored)
    theirs = random(own.length, 1)
    groups = query_groups(own)
    block = BlockGroups(groups, exchange=source)
    assert torch.equal(block.attend(joint_attention, *theirs, 0), joint_attention(*theirs, groups))
    assert stored.num_bytes == 2 * 2 * len(OTHERS) * WIDTH * 4

    for x, other in ((k, theirs[1]), (v, theirs[2])):
        x[:, :, image[OTHERS]] = other[:, :, image[OTHERS]]
    left = torch.ones(own.length, dtype=torch.bool)
    left[image[OTHERS]] = False
    expected = dense_joint_attention(q, k, v, own)[:, :, left]
    some = reduced(groups, own.length, own.image, COMPUTED)
    taking = RowExchange((first, first + len(COMPUTED)), source=stored, computed=COMPUTED)
    found = BlockGroups(some, exchange=taking).attend(joint_attention, q[:, :, left], k[:, :, left], v[:, :, left], 0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_shared_queries_and_keys_are_the_source_s_in_their_layers() -> None:
    """Of image tokens; the text has its own, and so has every other layer."""
    own = layout("text first")
    groups, image = query_groups(own), slice(*own.image)
    (q, k, v), theirs = random(own.length, 0), random(own.length, 1)
    stored = Stored(shared=frozenset({1}))
    source = BlockGroups(groups, exchange=RowExchange(own.image, stored=stored))
    taking = BlockGroups(groups, exchange=RowExchange(own.image, source=stored, shared=frozenset({1})))
    for block in (0, 1):
        source.attend(joint_attention, *theirs, block)
        mixed = [x.clone() for x in (q, k)]
        if block == 1:
            for x, other in zip(mixed, theirs, strict=False):
                x[:, :, image] = other[:, :, image]
        expected = dense_joint_attention(*mixed, v, own)
        found = taking.attend(joint_attention, q, k, v, block)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
