"""The painter: its holes, its loss, and the changes that ship."""

import copy
from dataclasses import fields

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from cloisonne.methods.reco import Vocabulary
from cloisonne.models.adapters.pseudo_words import PseudoWords
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.family_members import CLIP, adapted, tower_of
from cloisonne.models.vae import Vae
from cloisonne.train.base.latents import LatentStore
from cloisonne.train.base.networks import build_text, build_unet, load_autoencoder, load_tokenizer
from cloisonne.train.builtin.painter import BATCH, changes, hole_batch, stage
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.exemplar.student import widen
from cloisonne.world.draw import draw
from cloisonne.world.picture import Recipe, sample

WORLD = Recipe(counts=(1, 2), beyond_core=0.3)
TOKENIZER = load_tokenizer(BUILTIN / "tokenizer")
COUNT = 24


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    found = LatentStore(tmp_path_factory.mktemp("latents"), WORLD, (8, 16, 16), COUNT)
    drawn = [draw(sample(TRAINING_SEEDS + k, WORLD)) for k in range(COUNT)]
    found.append(drawn, torch.randn(COUNT, 8, 16, 16, generator=torch.Generator().manual_seed(0)))
    return found


def test_holes_cover_an_object_and_rows_repeat(store: LatentStore) -> None:
    whole = hole_batch(store, 2, 4, slice(None), 5)
    part = hole_batch(store, 2, 4, slice(0, None, 2), 5)
    for field in fields(whole):
        assert np.array_equal(getattr(whole, field.name)[::2], getattr(part, field.name))
    assert set(whole.words) <= {0, 2, 6}
    for row, index in enumerate(whole.indices):
        covered = []
        for x0, y0, x1, y1 in store.boxes(int(index)):
            a, b, c, d = (round(128 * side) for side in (x0, y0, x1, y1))
            covered.append(whole.holes[row, b:d, a:c].mean())
        assert max(covered) > 0.97


def test_the_whole_network_and_its_pseudo_words_learn(store: LatentStore) -> None:
    torch.manual_seed(0)
    words = PseudoWords(tower_of(BUILTIN / CLIP), 192)
    vae = Vae(load_autoencoder(BUILTIN / "vae"))
    unet, text = build_unet(), build_text(TOKENIZER)
    widen(unet)
    made = stage(unet, words, text, vae, store, Vocabulary.of(TOKENIZER), pictures=64, parts=2)
    assert len(made.losses) == 2
    loss, figures = made.losses[0](1, 0.0)
    loss.backward()
    assert figures["inside"] > 0
    assert all(p.grad is not None for p in unet.conv_in.parameters())
    assert unet.up_blocks[0].resnets[0].conv1.weight.grad is not None
    assert words.project.weight.grad is not None
    assert all(p.grad is None for p in text.parameters())
    assert made.pictures_per_step == BATCH


def small_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    shape = {"in_channels": 8, "out_channels": 8, "block_out_channels": (16, 32), "cross_attention_dim": 24}
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DConditionModel(**shape, **blocks, layers_per_block=1, norm_num_groups=8, attention_head_dim=2).eval()


@pytest.mark.parametrize(("rank", "most"), [(10_000, 1e-4), (80, 0.7)])
def test_changes_turn_the_base_into_the_painter(rank: int, most: float) -> None:
    base = small_unet()
    painter = copy.deepcopy(base)
    widen(painter)
    with torch.no_grad():
        for p in painter.parameters():
            p.add_(0.01 * torch.randn_like(p))
    found = changes(base, painter, rank)
    again = adapted(base, found).state_dict()
    layer = "down_blocks.1.resnets.0.conv1"
    assert found[f"{layer}.down"].shape[0] == min(rank, 32)
    own, wanted = base.state_dict()[f"{layer}.weight"], painter.state_dict()[f"{layer}.weight"]
    assert (again[f"{layer}.weight"] - wanted).norm() < most * (wanted - own).norm() + 1e-6
    for name in ("conv_in.weight", "conv_norm_out.bias"):
        assert torch.equal(again[name], painter.state_dict()[name])


def test_a_widened_base_predicts_the_same() -> None:
    base = small_unet()
    painter = copy.deepcopy(base)
    widen(painter)
    again = adapted(base, changes(base, painter, 8)).eval()
    z, t, tokens = torch.randn(1, 17, 16, 16), torch.tensor([5]), torch.randn(1, 7, 24)
    out, expected = (unet(z, t, encoder_hidden_states=tokens).sample for unet in (again, painter))
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(expected, base(z[:, :8], t, encoder_hidden_states=tokens).sample)
