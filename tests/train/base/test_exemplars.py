"""Exemplars in the base's training: what their texts say, and that a batch does not depend on threads."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cloisonne.methods.reco import Vocabulary
from cloisonne.models.adapters.pseudo_words import PseudoWords
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.family_members import CLIP, tower_of
from cloisonne.models.vae import Vae
from cloisonne.train.base import exemplars
from cloisonne.train.base.batches import Batches
from cloisonne.train.base.exemplars import exemplar_text, hole_text, view
from cloisonne.train.base.latents import LatentStore
from cloisonne.train.base.networks import build_text, build_unet, load_autoencoder, load_tokenizer
from cloisonne.train.base.recipe import BaseRecipe
from cloisonne.train.base.stage import stage
from cloisonne.train.builtin.exemplar import narrow_unet
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.exemplar.student import widen
from cloisonne.world.draw import draw
from cloisonne.world.glyphs import CORE
from cloisonne.world.picture import Recipe, sample

WORLD = Recipe(counts=(1, 2, 3), beyond_core=0.3)
TOKENIZER = load_tokenizer(BUILTIN / "tokenizer")
V = Vocabulary.of(TOKENIZER)
COUNT = 24
SMALL = BaseRecipe(batch=16, half=0.0, exemplars=0.3, holes=0.4)
CHARS = {c.char for c in CORE}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LatentStore:
    found = LatentStore(tmp_path_factory.mktemp("latents"), WORLD, (8, 16, 16), COUNT)
    drawn = [draw(sample(TRAINING_SEEDS + k, WORLD)) for k in range(COUNT)]
    found.append(drawn, torch.randn(COUNT, 8, 16, 16, generator=torch.Generator().manual_seed(0)))
    return found


def batches(store: LatentStore, recipe: BaseRecipe = SMALL) -> Batches:
    return Batches(store=store, half=None, tokenizer=TOKENIZER, recipe=recipe, pseudo=(2, 4))


def test_pseudo_words_stand_between_the_start_and_the_end_of_their_item(store: LatentStore) -> None:
    counted = set()
    for index in range(COUNT):
        text = exemplar_text(store, index, np.random.default_rng(index), TOKENIZER, V, 2, 4)
        ids, owners = text.tokens.ids, text.tokens.owners
        assert len(ids) == V.length
        assert text.exemplars
        for exemplar in text.exemplars:
            first, last = exemplar.places[0], exemplar.places[-1]
            counted.add(len(exemplar.places))
            assert exemplar.places == tuple(range(first, last + 1))
            assert ids[first - 1] == V.start
            assert ids[last + 1] == V.end
            assert len({owners[place] for place in exemplar.places}) == 1
            assert owners[first] > 0
            assert V.first_bin <= ids[first - 2] < V.first_bin + V.bins
    assert counted == {2, 6}


def test_a_hole_covers_the_object_that_its_text_describes(store: LatentStore) -> None:
    empty = 0
    for index in range(COUNT):
        text = hole_text(store, index, np.random.default_rng(index), V, 2, 4)
        assert text.hole is not None
        assert text.hole.rgb.shape == (128, 128, 3)
        covered = [text.hole.mask[d[1] : d[3], d[0] : d[2]].mean() for d in pixel_boxes(store, index)]
        assert max(covered) > 0.97
        assert text.tokens.ids[0] == V.start
        assert set(text.tokens.ids[1:]) == {V.end}
        empty += not text.exemplars
        for exemplar in text.exemplars:
            assert exemplar.places[0] == 1
            assert max(covered) == covered[text.tokens.owners[1] - 1]
    assert 0 < empty < COUNT / 2


def pixel_boxes(store: LatentStore, index: int) -> list[list[int]]:
    return [[round(128 * side) for side in box] for box in store.boxes(index)]


def test_glyphs_beyond_the_core_are_chosen_more_often(store: LatentStore) -> None:
    def beyond(index: int) -> bool:
        return not {item.char for item in store.picture(index).items} <= CHARS

    rng = np.random.default_rng(0)
    assert all(beyond(index) for index in store.choose_beyond_core(rng, 16))
    recipe = replace(SMALL, exemplars=0.5, holes=0.5, beyond_core=1.0)
    before = np.array(["reco"] * 32 + ["null"] * 32)
    chosen, modes = batches(store, recipe)._with_exemplars(store, np.zeros(64, int), before, rng)
    assert set(modes[:32]) == {"hole", "exemplars"}
    assert set(modes[32:]) == {"hole", "null"}
    assert all(beyond(index) for index in chosen[:32])


def test_a_row_does_not_depend_on_the_others(store: LatentStore) -> None:
    whole = batches(store).rows(slice(None), False, False, 3)
    part = batches(store).rows(slice(1, None, 2), False, False, 3)
    assert len(whole.exemplars) > len(part.exemplars) > 0
    for field in fields(whole):
        if field.name not in ("exemplars", "places", "holed", "pixels", "holes"):
            assert torch.equal(getattr(whole, field.name)[1::2], getattr(part, field.name))
    shown = [whole.exemplars[(row[row > 0].unique() - 1) // 6].flatten(1).sum(1).sum() for row in whole.places[1::2]]
    again = [part.exemplars[(row[row > 0].unique() - 1) // 6].flatten(1).sum(1).sum() for row in part.places]
    assert shown == again
    assert torch.equal(whole.places[1::2] > 0, part.places > 0)
    odd = whole.holed % 2 == 1
    assert len(part.holed) > 0
    assert torch.equal((whole.holed[odd] - 1) // 2, part.holed)
    assert torch.equal(whole.holes[odd], part.holes)


def test_without_exemplars_nothing_changes(store: LatentStore) -> None:
    plain = batches(store, replace(SMALL, exemplars=0.0, holes=0.0)).rows(slice(None), False, False, 3)
    assert not len(plain.exemplars)
    assert not len(plain.holed)
    assert not plain.places.any()


def test_a_view_shows_the_object_otherwise() -> None:
    first, second = (view(CORE[0].char, None, "natural", np.random.default_rng(seed)) for seed in (1, 2))
    assert first.shape == (64, 64, 3)
    assert (first != second).mean() > 0.2


def test_text_unet_and_pseudo_words_all_learn(store: LatentStore) -> None:
    torch.manual_seed(0)
    words, unet, text = PseudoWords(tower_of(BUILTIN / CLIP), 192), build_unet(), build_text(TOKENIZER)
    widen(unet)
    vae = Vae(load_autoencoder(BUILTIN / "vae"))
    made = stage(text, unet, TOKENIZER, store, 1.0, recipe=SMALL, exemplar=words, vae=vae, parts=1)
    made.losses[0](3, 0.0)[0].backward()
    assert words.project.weight.grad is not None
    assert words.project_details.weight.grad is not None
    assert all(p.grad is None for p in words.vision.parameters())
    assert unet.conv_in.weight.grad is not None
    assert unet.conv_in.weight.grad[:, 8:].abs().amax((0, 2, 3)).min() > 0
    with pytest.raises(ValueError, match="pseudo-words"):
        stage(text, unet, TOKENIZER, store, 1.0, recipe=SMALL, parts=1)


def test_without_a_hole_the_masked_image_is_nothing(store: LatentStore) -> None:
    """The base of the trained network is the network without the channels of the masked image."""
    wide = build_unet().eval()
    widen(wide)
    with torch.no_grad():
        wide.conv_in.weight.normal_()
    base = narrow_unet(wide)
    z, t, tokens = torch.randn(1, 8, 16, 16), torch.tensor([5]), torch.randn(1, 77, 192)
    padded = torch.cat([z, torch.zeros(1, 9, 16, 16)], 1)
    expected = wide(padded, t, encoder_hidden_states=tokens).sample
    torch.testing.assert_close(base(z, t, encoder_hidden_states=tokens).sample, expected)
    assert base.config["in_channels"] == 8
    assert wide.config["in_channels"] == 17


@pytest.mark.slow
def test_pseudo_words_come_to_be_read_as_names(tmp_path: Path) -> None:
    from cloisonne.train.builtin.resume import base_of
    from cloisonne.train.loop import run

    torch.manual_seed(0)
    words = PseudoWords(tower_of(BUILTIN / CLIP), 192)
    lines: list[str] = []
    naming = exemplars.stage(words, base_of(BUILTIN)[0], TOKENIZER, 3_200)
    first = naming.losses[0](0, 0.0)[1]["content"]
    run(naming, tmp_path, report=lines.append)
    assert naming.losses[0](1, 0.0)[1]["content"] < 0.6 * first
