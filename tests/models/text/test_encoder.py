from pathlib import Path

import pytest
import torch

from cloisonne.errors import SceneError
from cloisonne.models.load import load
from cloisonne.models.model import Model
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


def test_a_weight_moves_its_own_tokens_from_the_empty_text(tiny: Model) -> None:
    plain, empty = tiny.text.encode([Piece("a red cat")]).tokens, tiny.text.encode(()).tokens
    encoded = tiny.text.encode([Piece("a "), Piece("red", 2.0), Piece(" cat")])
    start = 1 + tiny.text.count("a ")
    stop = start + tiny.text.count("red")
    expected = plain.clone()
    expected[start:stop] += plain[start:stop] - empty[start:stop]
    torch.testing.assert_close(encoded.tokens, expected)


def test_blank_text_has_the_shape_and_the_limits_of_text(tiny: Model) -> None:
    assert tiny.text.encode([Piece("a cat")], blank=True).tokens.shape == tiny.text.blank().tokens.shape
    with pytest.raises(SceneError, match=r'^Region "pet"'):
        tiny.text.encode([Piece(" ".join(["cat"] * 76))], region="pet", blank=True)
