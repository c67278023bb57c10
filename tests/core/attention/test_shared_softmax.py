"""Rows that look alike share one softmax: the same as each by itself, in whatever blocks, and no maps are kept."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.attention import shared_softmax as module
from cloisonne.core.attention.shared_softmax import shared_softmax

ROWS, HEADS, WIDTH = 5, 3, 8
PAIRS = [[], [(0, 1)], [(1, 0), (3, 4)], [(0, 1), (0, 2), (0, 4)], [(2, 0), (2, 1), (2, 3), (2, 4)]]


def made(queries: int, keys: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """As layers give them: heads split by a view, so that nothing is contiguous."""
    rng = torch.Generator().manual_seed(queries)

    def split(length: int) -> Tensor:
        x = torch.randn(ROWS, length, HEADS * WIDTH, generator=rng).to(dtype)
        return x.view(ROWS, length, HEADS, WIDTH).transpose(1, 2)

    return split(queries), split(keys), split(keys)


def one_by_one(q: Tensor, k: Tensor, v: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    leader = {b: a for a, b in pairs}
    query_key_donors = [leader.get(i, i) for i in range(ROWS)]
    return F.scaled_dot_product_attention(q[query_key_donors], k[query_key_donors], v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize(("queries", "keys", "cross"), [(36, 36, False), (36, 7, True), (1, 5, True)])
@pytest.mark.parametrize("at_once", [1, 50, 400, 1 << 19])
def test_each_row_is_as_by_itself(monkeypatch, pairs, queries: int, keys: int, cross: bool, at_once: int) -> None:
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    q, k, v = made(queries, keys)
    torch.testing.assert_close(
        shared_softmax(q, k, v, pairs, cross=cross), one_by_one(q, k, v, pairs), atol=2e-6, rtol=1e-5
    )


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("cross", [False, True])
def test_half_precision_keeps_to_the_fused_kernel(pairs, cross: bool) -> None:
    q, k, v = made(36, 36, torch.bfloat16)
    torch.testing.assert_close(
        shared_softmax(q, k, v, pairs, cross=cross), one_by_one(q, k, v, pairs), atol=2e-2, rtol=2e-2
    )


def test_no_block_of_probabilities_is_larger_than_allowed(monkeypatch) -> None:
    sizes: list[int] = []
    softmax = torch.softmax

    def noted(x: Tensor, dim: int) -> Tensor:
        sizes.append(x.numel())
        return softmax(x, dim)

    monkeypatch.setattr(torch, "softmax", noted)
    monkeypatch.setattr(module, "AT_ONCE", 100)
    shared_softmax(*made(36, 36), [(0, 1)], cross=False)
    assert max(sizes) <= 100
    assert sum(sizes) == HEADS * 36 * 36
