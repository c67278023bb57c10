"""An extended text encoder has more tokens and positions; the existing ones do not change."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_text, tiny_tokenizer
from torch import nn

from cloisonne.errors import TrainingError
from cloisonne.methods.reco import Vocabulary, sequence
from cloisonne.train.reco.student import ExtendedEmbedding
from cloisonne.train.reco.vocabulary import extend, sinusoids


@pytest.fixture
def stock() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer(0)
    return tokenizer, tiny_text(tokenizer).eval()


def test_without_regions_the_first_77_outputs_are_the_stock_encoders(stock: tuple[Any, Any]) -> None:
    """The encoder is causal, so later tokens have no effect."""
    tokenizer, text = stock
    ids = tokenizer("a cat on the beach", padding="max_length", max_length=77).input_ids
    with torch.no_grad():
        before = text(torch.tensor([ids])).last_hidden_state
    extend(tokenizer, text, bins=1000)
    longer, _ = sequence(tokenizer, "a cat on the beach", ())
    assert len(longer) == 616
    assert longer[:77] == ids
    with torch.no_grad():
        after = text(torch.tensor([longer])).last_hidden_state
    assert after.shape[1] == 616
    torch.testing.assert_close(after[:, :77], before, atol=1e-5, rtol=0)


def test_new_rows(stock: tuple[Any, Any]) -> None:
    tokenizer, text = stock
    tokens, places = (table.weight.detach().clone() for table in text.embeddings.children())
    words = len(tokenizer)
    extension = extend(tokenizer, text)
    v = Vocabulary.of(tokenizer)
    assert (v.first_bin, v.bins, v.length) == (words, 1000, 616)
    assert (extension.first_token, extension.first_position) == (words, 77)
    now, further = (table.weight for table in text.embeddings.children())
    assert torch.equal(now[:words], tokens)
    assert torch.equal(further[:77], places)
    assert torch.equal(further[77:], places[-1:].expand(616 - 77, -1))
    assert float(now[words:].detach().std()) == pytest.approx(float(tokens.std()), rel=0.01)
    assert tokenizer.convert_ids_to_tokens([words, words + 999]) == ["<bin000>", "<bin999>"]
    config = text.config
    assert (config.vocab_size, config.max_position_embeddings) == (words + 1000, 616)
    assert config.eos_token_id == config.pad_token_id == tokenizer.pad_token_id == tokenizer.eos_token_id


def test_nearby_positions_are_similar() -> None:
    rows = nn.functional.normalize(sinusoids(1000, 32), dim=1)
    assert float(rows[400] @ rows[401]) > 0.99
    assert float(rows[400] @ rows[401]) > float(rows[400] @ rows[410]) > float(rows[400] @ rows[600])


def test_pooled_output_is_the_ends(stock: tuple[Any, Any]) -> None:
    """The legacy eos_token_id 2 would take it at the largest id, a position's."""
    tokenizer, text = stock
    text.config.eos_token_id = text.eos_token_id = 2
    extend(tokenizer, text, bins=16, length=96)
    from cloisonne.models.checkpoints.parts import TextPart  # the saved encoder, as it is loaded again
    from cloisonne.models.text.clip import ClipTextEncoder

    assert ClipTextEncoder([TextPart(text, tokenizer)]).length == 96
    again = type(text)(text.config)
    again.load_state_dict(text.state_dict())
    ids, _ = sequence(tokenizer, "a cat", [((0.0, 0.0, 1.0, 1.0), "a dog")])
    with torch.no_grad():
        out = again.eval()(torch.tensor([ids]))
    assert torch.equal(out.pooler_output[0], out.last_hidden_state[0, ids.index(tokenizer.eos_token_id)])


def test_padding_of_other_kinds_becomes_the_end(stock: tuple[Any, Any]) -> None:
    """Stable Diffusion 2 pads with "!"."""
    tokenizer, text = stock
    tokenizer.pad_token = "!"
    extend(tokenizer, text, bins=16, length=96)
    assert tokenizer("a cat", padding="max_length").input_ids == sequence(tokenizer, "a cat", ())[0]


def test_what_has_position_tokens_stays() -> None:
    tokenizer = tiny_tokenizer(16)
    text = tiny_text(tokenizer)
    before = {name: values.clone() for name, values in text.state_dict().items()}
    extension = extend(tokenizer, text)
    assert Vocabulary.of(tokenizer).bins == 16
    assert tokenizer.model_max_length == 77
    assert all(torch.equal(values, before[name]) for name, values in text.state_dict().items())
    assert (extension.first_token, extension.first_position) == (len(tokenizer), 77)
    extend(tokenizer, text, bins=16, length=154)
    assert Vocabulary.of(tokenizer).length == text.config.max_position_embeddings == 154
    with pytest.raises(TrainingError, match="has 16 position tokens"):
        extend(tokenizer, text, bins=1000)
    with pytest.raises(TrainingError, match="reads 154 tokens"):
        extend(tokenizer, text, length=77)


def test_a_table_longer_than_the_vocabulary_keeps_its_rows() -> None:
    tokenizer = tiny_tokenizer(0)
    text = tiny_text(tokenizer)
    words = len(tokenizer)
    text.resize_token_embeddings(words + 64, mean_resizing=False)
    extend(tokenizer, text, bins=16, length=96)
    assert Vocabulary.of(tokenizer).first_bin == words
    assert len(text.embeddings.token_embedding.weight) == words + 64


def test_extended_embedding_is_the_whole_table_and_trains_its_new_rows() -> None:
    table = nn.Embedding(10, 4)
    extended = ExtendedEmbedding(table, 7)
    ids = torch.tensor([[0, 6, 7, 9]])
    torch.testing.assert_close(extended(ids), table(ids))
    assert torch.equal(extended.weight, table.weight)
    extended(ids).sum().backward()
    assert [name for name, p in extended.named_parameters() if p.requires_grad] == ["new"]
    assert extended.new.grad is not None
    assert extended.new.grad.sum(1).tolist() == [4, 0, 4]
    assert torch.equal(ExtendedEmbedding(table, 10)(ids), table(ids))


def test_saved_tokenizer_keeps_its_length(stock: tuple[Any, Any], tmp_path: Path) -> None:
    tokenizer, text = stock
    extend(tokenizer, text)
    tokenizer.save_pretrained(tmp_path)
    assert Vocabulary.of(type(tokenizer).from_pretrained(tmp_path)) == Vocabulary.of(tokenizer)
