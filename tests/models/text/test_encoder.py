import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cloisonne.errors import SceneError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.text.chunks import chunks, spans
from cloisonne.scene.prompt import Piece


def test_text_is_read_as_stable_diffusion_reads_it(tiny: Model) -> None:
    text = tiny.text
    stock = text.tokenizer(
        "a red cat", padding="max_length", max_length=text.length, truncation=True, return_tensors="pt"
    )
    assert text.padded_ids("a red cat") == stock.input_ids[0].tolist()
    assert text.length == 77
    tokens = text.encode_ids(text.padded_ids("a red cat")).tokens
    torch.testing.assert_close(tokens, text.module(stock.input_ids)[0][0])
    assert tokens.shape == (77, text.width)


def test_empty_text_is_start_and_ends(tiny: Model) -> None:
    ids = tiny.text.padded_ids("")
    assert ids[0] == tiny.text.tokenizer.bos_token_id
    assert set(ids[1:]) == {tiny.text.tokenizer.eos_token_id}


def test_text_is_never_cut(tiny: Model) -> None:
    fits = " ".join(["cat"] * 75)
    assert len(tiny.text.padded_ids(fits)) == 77
    with pytest.raises(SceneError, match=r'^Region "pet": ".*\.\.\." takes 76 tokens, .* at most 75; shorten it\.$'):
        tiny.text.padded_ids(f"{fits} cat", region="pet")


def test_published_layout_of_tokenizers_is_read(tiny_sd: Path, tmp_path: Path) -> None:
    """Stable Diffusion 1.x ships vocab.json and merges.txt."""
    import json
    import shutil

    folder = shutil.copytree(tiny_sd, tmp_path / "old")
    model = json.loads((folder / "tokenizer/tokenizer.json").read_text())["model"]
    (folder / "tokenizer/tokenizer.json").unlink()
    (folder / "tokenizer/vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (folder / "tokenizer/merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    assert load(folder).text.padded_ids("a red cat") == load(tiny_sd).text.padded_ids("a red cat")


@pytest.mark.parametrize("blank", [False, True])
def test_spans_are_those_of_the_pieces(tiny: Model, blank: bool) -> None:
    pieces = [Piece("a red", 1.5), Piece(" cat"), Piece("zzz", 0.5)]
    encoded = tiny.text.encode(pieces, blank=blank)
    assert encoded.ids is not None
    found = [[i for start, stop in spans for i in encoded.ids[start:stop]] for spans in encoded.word_spans]
    assert found == [tiny.text.token_ids(piece.words) for piece in pieces]
    assert [tiny.text.count(piece.words) for piece in pieces] == list(map(len, found))


def test_a_weight_moves_its_own_tokens_from_the_empty_text(tiny: Model) -> None:
    plain, empty = tiny.text.encode([Piece("a red cat")]).tokens, tiny.text.encode(()).tokens
    encoded = tiny.text.encode([Piece("a "), Piece("red", 2.0), Piece(" cat")])
    ((start, stop),) = encoded.word_spans[1]
    expected = plain.clone()
    expected[start:stop] += plain[start:stop] - empty[start:stop]
    torch.testing.assert_close(encoded.tokens, expected)


def test_blank_text_has_the_shape_and_the_limits_of_text(tiny: Model) -> None:
    assert tiny.text.encode([Piece("a cat")], blank=True).tokens.shape == tiny.text.blank().tokens.shape
    with pytest.raises(SceneError, match=r'^Region "pet"'):
        tiny.text.encode([Piece(" ".join(["cat"] * 601))], region="pet", blank=True)


@pytest.fixture(scope="module")
def encoders(tiny: Model, tiny_xl: Path) -> dict[str, Any]:
    return {"one": tiny.text, "two": load(tiny_xl).text}


def by_hand(encoder: Any, words: Sequence[str], weights: Sequence[float]) -> tuple[Tensor, Tensor | None]:
    """Long prompts as compel encodes them, for words of one token each: 75 at a time between start and end."""
    pads = [
        encoder.tokenizer.eos_token_id,
        *([encoder.tokenizer.convert_tokens_to_ids("!")] if encoder.pooled_width else []),
    ]
    found, pooled = [], []
    for at in range(0, len(words), 75):
        parts = []
        for module, pad in zip(encoder.modules, pads, strict=True):
            chunks = {}
            for name, own in (("text", words[at : at + 75]), ("empty", [])):
                ids = encoder.tokenizer.convert_tokens_to_ids([f"{word}</w>" for word in own])
                ids = [encoder.tokenizer.bos_token_id, *ids, encoder.tokenizer.eos_token_id]
                out = module(torch.tensor([ids + [pad] * (77 - len(ids))]), output_hidden_states=True)
                chunks[name] = out.hidden_states[-2][0] if encoder.pooled_width else out.last_hidden_state[0]
                if name == "text" and module is encoder.modules[-1] and encoder.pooled_width:
                    pooled.append(out.text_embeds[0])
            own_weights = torch.ones(77)
            own_weights[1 : 1 + len(weights[at : at + 75])] = torch.tensor(weights[at : at + 75])
            parts.append(chunks["empty"] + own_weights[:, None] * (chunks["text"] - chunks["empty"]))
        found.append(torch.cat(parts, -1))
    return torch.cat(found), pooled[0] if pooled else None


@pytest.mark.parametrize("line", ["one", "two"])
@pytest.mark.parametrize("count", [75, 76, 150, 200])
@torch.no_grad()
def test_long_text_is_encoded_in_chunks(encoders: dict[str, Any], line: str, count: int) -> None:
    encoder = encoders[line]
    words = [("cat", "dog", "red", "car")[k * k % 4 if k % 3 else 2] for k in range(count)]
    weights = [1.0] * 65 + [1.5] * 10 + [1.0] * (count - 75)
    split = [Piece(" ".join(words[:65]) + " "), Piece(" ".join(words[65:75]) + " ", 1.5), Piece(" ".join(words[75:]))]
    if count == 76:
        split, weights = [Piece(" ".join(words), 1.5)], [1.5] * count
    encoded = encoder.encode([piece for piece in split if piece.words])
    tokens, pooled = by_hand(encoder, words, weights)
    torch.testing.assert_close(encoded.tokens, tokens, atol=1e-5, rtol=1e-5)
    assert (encoded.pooled is None) == (pooled is None)
    if pooled is not None:
        torch.testing.assert_close(encoded.pooled, pooled, atol=1e-5, rtol=1e-5)


def test_chunks_end_behind_commas_and_words(tiny: Model) -> None:
    comma, end, inside = 0, 1, 2

    def cut(ids: Sequence[int], capacity: int = 30) -> list[int]:
        return [len(own) for own in chunks([ids], capacity, lambda i: i == comma, lambda i: i != inside)]

    assert cut([end] * 31) == [30, 1]
    assert cut([*[end] * 25, comma, *[end] * 20]) == [26, 20]
    assert cut([*[end] * 5, comma, *[end] * 30]) == [30, 6]
    assert cut([*[end] * 28, *[inside] * 10, end]) == [28, 11]
    assert cut([inside] * 70) == [30, 30, 10]
    assert cut([]) == [0]


@pytest.mark.parametrize("seed", range(5))
def test_chunks_hold_every_token_once_and_in_order(seed: int) -> None:
    rng = random.Random(seed)
    pieces = [[rng.randrange(3) for _ in range(rng.choice([0, 1, 9, 10, 11, 40]))] for _ in range(6)]
    found = chunks(pieces, 10, lambda i: i == 0, lambda i: i != 2)
    assert all(len(chunk) <= 10 for chunk in found)
    assert [(t.piece, t.id) for chunk in found for t in chunk] == [(k, i) for k, own in enumerate(pieces) for i in own]
    sequence = [i for chunk in found for i in [-1, *(t.id for t in chunk), *[-1] * (11 - len(chunk))]]
    where = spans(found, len(pieces), 12)
    assert [[i for start, stop in own for i in sequence[start:stop]] for own in where] == pieces
    assert [len(own) for own, ids in zip(where, pieces, strict=True) if 0 < len(ids) <= 10] == [1] * sum(
        0 < len(ids) <= 10 for ids in pieces
    )
