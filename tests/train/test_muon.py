"""Muon equals torch's in bfloat16, and is the same method in float32."""

import pytest
import torch
from torch import Tensor, nn

from cloisonne.train.muon import Muon, orthogonalised


def trained(kind: str, dtype: torch.dtype, shape: tuple[int, int], steps: int = 4) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(shape, generator=rng))
    if kind == "torch":
        optimiser: torch.optim.Optimizer = torch.optim.Muon(
            [weight], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
    else:
        optimiser = Muon([weight], lr=0.02, weight_decay=0.1, dtype=dtype)
    for _ in range(steps):
        weight.grad = torch.randn(shape, generator=rng)
        optimiser.step()
    return weight.detach()


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (8, 8)])
def test_bfloat16_equals_torch_bit_for_bit(shape: tuple[int, int]) -> None:
    assert torch.equal(trained("ours", torch.bfloat16, shape), trained("torch", torch.bfloat16, shape))


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (8, 8)])
def test_float32_is_near_bfloat16_and_not_equal(shape: tuple[int, int]) -> None:
    single, half = (trained("ours", dtype, shape) for dtype in (torch.float32, torch.bfloat16))
    assert not torch.equal(single, half)
    torch.testing.assert_close(single, half, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_come_near_one(dtype: torch.dtype) -> None:
    matrix = torch.randn(12, 20, generator=torch.Generator().manual_seed(1))
    before = matrix.clone()
    values = torch.linalg.svdvals(orthogonalised(matrix, dtype).float())
    assert 0.4 < values.min() <= values.max() < 1.4
    assert torch.equal(matrix, before)
