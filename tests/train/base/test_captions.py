"""Training sequences equal those that the methods build at inference."""

from types import SimpleNamespace

import numpy as np
import pytest

from cloisonne.methods.baselines import scene_in_words
from cloisonne.methods.reco import Vocabulary, normalise, sequence
from cloisonne.models.builtin import BUILTIN
from cloisonne.train.base.captions import caption_tokens
from cloisonne.train.base.networks import load_tokenizer
from cloisonne.world import words
from cloisonne.world.picture import Recipe, sample

pytestmark = pytest.mark.skipif(not (BUILTIN / "tokenizer").is_dir(), reason="the built-in family is not there")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(BUILTIN / "tokenizer")


@pytest.fixture(scope="module")
def store():
    """Stored images with the sampled boxes of their items."""
    return SimpleNamespace(picture=sample, boxes=lambda index: [item.box for item in sample(index).items])


def expected_texts(store, index, mode):
    """Caption, boxes and phrases in the order of ``tell``."""
    rng = np.random.default_rng(index)
    picture, boxes = store.picture(index), store.boxes(index)
    text = words.caption(picture, boxes, rng, objects=True if mode == "caption" else None)
    if mode == "caption":
        return text, []
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]
    phrases = [words.phrase(item, area, rng) for item, area in zip(picture.items, areas, strict=True)]
    return text, [(boxes[k], phrases[k]) for k in np.argsort([-a for a in areas])]


@pytest.mark.parametrize("index", range(12))
def test_sequences_are_those_of_the_methods(store, tokenizer, index):
    v = Vocabulary.of(tokenizer)
    for mode in ("reco", "caption", "words", "null"):
        tokens = caption_tokens(store, index, mode, np.random.default_rng(index), tokenizer, v)
        assert len(tokens.ids) == len(tokens.owners) == v.length
        caption, regions = expected_texts(store, index, mode) if mode != "null" else ("", [])
        if mode == "words":
            text = normalise(scene_in_words(caption, regions))
            expected = tokenizer(text, padding="max_length", max_length=v.length, truncation=True).input_ids
        else:
            expected = sequence(tokenizer, caption, regions)[0]
        assert tokens.ids == expected


def test_owners_name_the_item_of_each_token(store, tokenizer):
    v = Vocabulary.of(tokenizer)
    tokens = caption_tokens(store, 3, "reco", np.random.default_rng(3), tokenizer, v)
    _, regions = expected_texts(store, 3, "reco")
    boxes = store.boxes(3)
    for box, _ in regions:
        k = boxes.index(box)
        own = [i for i, owner in zip(tokens.ids, tokens.owners, strict=True) if owner == k + 1]
        assert own[:4] == [v.position(value) for value in box]


def test_every_caption_names_the_style(store, tokenizer):
    v = Vocabulary.of(tokenizer)
    recipe = Recipe(styled=1.0, styles=("blueprint",))
    styled = SimpleNamespace(picture=lambda index: sample(index, recipe), boxes=store.boxes)
    texts = [
        tokenizer.decode(caption_tokens(styled, k, "caption", np.random.default_rng(k), tokenizer, v).ids)
        for k in range(40)
    ]
    assert all("blueprint" in text for text in texts)
