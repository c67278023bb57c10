"""Attention that is told where to look: the recorder changes nothing, and the loss is least where it should be."""

import numpy as np
import pytest
import torch

from cloisonne.train.base.grounding import ITEMS, grounding_loss, record
from cloisonne.train.base.networks import build_unet


def test_recording_leaves_the_network_as_it_is():
    unet = build_unet().eval()
    z, told = torch.randn(2, 8, 16, 16), torch.randn(2, 11, unet.config["cross_attention_dim"])
    with torch.no_grad():
        before = unet(z, torch.tensor(500), encoder_hidden_states=told).sample
        seen = record(unet).all
        after = unet(z, torch.tensor(500), encoder_hidden_states=told).sample
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    layers = sum("attn2" in name for name in unet.attn_processors)
    assert len(seen) == layers > 0
    for attention in seen:
        assert attention.shape[0] == 2
        assert attention.shape[2] == 11
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:2]))


@pytest.fixture
def shown():
    """One row: item 0 on the left half of 4 x 4 cells, nothing on the right; tokens 2 and 3 are about it."""
    items = torch.zeros(1, 1 + ITEMS, 4, 4)
    items[:, 1, :, :2] = 1
    items[:, 0, :, 2:] = 1
    return items, torch.tensor([[0, 0, 1, 1, 0]])


def attention(left, right):
    """[1, 16, 5]: what the cells of either half look at."""
    grid = torch.tensor(np.stack([left, left, right, right])).float()
    return grid.repeat(4, 1)[None]


def test_loss_is_least_when_cells_look_at_what_they_show(shown):
    items, owners = shown
    placed = torch.ones(1)
    right = attention([0, 0, 0.5, 0.5, 0], [1, 0, 0, 0, 0])
    even = attention([0.2] * 5, [0.2] * 5)
    wrong = attention([1, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0])
    losses = [float(grounding_loss([seen], owners, items, placed)) for seen in (right, even, wrong)]
    assert losses[0] == pytest.approx(0, abs=2e-3)
    assert losses[0] < losses[1] < losses[2]


def test_rows_that_do_not_say_where_do_not_count(shown):
    items, owners = shown
    wrong = attention([1, 0, 0, 0, 0], [0, 0, 1, 0, 0])
    assert float(grounding_loss([wrong], owners, items, torch.zeros(1))) == 0
