"""The recorder does not change the output, and the grounding loss has the expected minimum."""

import numpy as np
import pytest
import torch

from cloisonne.train.base.grounding import ITEMS, grounding_loss, record
from cloisonne.train.base.networks import build_unet


def test_recording_leaves_the_network_as_it_is():
    unet = build_unet().eval()
    z, hidden_states = torch.randn(2, 8, 16, 16), torch.randn(2, 11, unet.config["cross_attention_dim"])
    with torch.no_grad():
        before = unet(z, torch.tensor(500), encoder_hidden_states=hidden_states).sample
        seen = record(unet).all
        after = unet(z, torch.tensor(500), encoder_hidden_states=hidden_states).sample
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    layers = sum("attn2" in name for name in unet.attn_processors)
    assert len(seen) == layers > 0
    for attention in seen:
        assert attention.shape[0] == 2
        assert attention.shape[2] == 11
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:2]))


@pytest.fixture
def items_and_owners():
    """One row: item 0 on the left half of 4 x 4 cells, nothing on the right; tokens 2 and 3 are about it."""
    items = torch.zeros(1, 1 + ITEMS, 4, 4)
    items[:, 1, :, :2] = 1
    items[:, 0, :, 2:] = 1
    return items, torch.tensor([[0, 0, 1, 1, 0]])


def attention(left, right):
    """[1, 16, 5]: what the cells of either half look at."""
    grid = torch.tensor(np.stack([left, left, right, right])).float()
    return grid.repeat(4, 1)[None]


def test_loss_is_lowest_when_cells_attend_to_their_item(items_and_owners):
    items, owners = items_and_owners
    placed = torch.ones(1)
    right = attention([0, 0, 0.5, 0.5, 0], [1, 0, 0, 0, 0])
    even = attention([0.2] * 5, [0.2] * 5)
    wrong = attention([1, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0])
    losses = [float(grounding_loss([seen], owners, items, placed)) for seen in (right, even, wrong)]
    assert losses[0] == pytest.approx(0, abs=2e-3)
    assert losses[0] < losses[1] < losses[2]


def test_rows_without_positions_have_no_weight(items_and_owners):
    items, owners = items_and_owners
    wrong = attention([1, 0, 0, 0, 0], [0, 0, 1, 0, 0])
    assert float(grounding_loss([wrong], owners, items, torch.zeros(1))) == 0
