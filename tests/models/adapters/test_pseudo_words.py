"""Pseudo-words stand in a text where a name would: what the text encoder reads is the same."""

import torch

from cloisonne.models.adapters.pseudo_words import PseudoWords, encoded
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.family_members import CLIP, exemplar_text, tower_of
from cloisonne.train.base.networks import load_tokenizer
from cloisonne.train.builtin.resume import base_of

TEXT = base_of(BUILTIN)[0].eval().requires_grad_(False)
TOKENIZER = load_tokenizer(BUILTIN / "tokenizer")
TOWER = tower_of(BUILTIN / CLIP)


def ids_of(*texts: str) -> torch.Tensor:
    return TOKENIZER(list(texts), padding="max_length", return_tensors="pt").input_ids


def test_embeddings_are_read_as_the_token_ids_that_they_are_of() -> None:
    ids = ids_of("a red car", "two owls on a table")
    found = encoded(TEXT, ids, torch.zeros(0, 192), torch.zeros_like(ids))
    torch.testing.assert_close(found, TEXT(ids).last_hidden_state)


def test_embeddings_of_a_name_are_read_as_the_name() -> None:
    named, other = ids_of("a red car"), ids_of("a cat bus")
    places = torch.zeros_like(named)
    places[0, 2], places[0, 3] = 2, 1
    red, car = TEXT.get_input_embeddings()(named)[0, 2:4]
    found = encoded(TEXT, other, torch.stack([car, red]), places)
    torch.testing.assert_close(found, TEXT(named).last_hidden_state)


def test_details_can_be_left_out() -> None:
    torch.manual_seed(0)
    words = PseudoWords(TOWER, 192).eval()
    images = torch.randn(2, 3, 64, 64)
    encoder = exemplar_text(words, TEXT, TOKENIZER)
    assert encoder.has_bottleneck
    assert encoder(images).shape == (2, 77, 192)
    features = words.image_features(images)
    features[:, 1:] = 0
    torch.testing.assert_close(encoder.tokens_of(features, bottleneck=True), encoder(images, bottleneck=True))
    assert not torch.allclose(encoder.tokens_of(features), encoder(images))


def test_no_exemplar_is_the_empty_text() -> None:
    encoder = exemplar_text(PseudoWords(TOWER, 192), TEXT, TOKENIZER)
    torch.testing.assert_close(encoder.null_tokens(), TEXT(ids_of("")).last_hidden_state[0])


def test_it_holds_its_own_weights_alone() -> None:
    encoder = exemplar_text(PseudoWords(TOWER, 192), TEXT, TOKENIZER)
    assert all(name.startswith("words.") for name in encoder.state_dict())
