"""Learned words within a LoRA's file, named "bundle_emb.WORD.NAME" as AUTOMATIC1111 writes them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lora_files import kohya_file, lora_weights
from safetensors.torch import load_file, save_file
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.load import load


def bundle(folder: Path, path: Path, words: dict[str, Tensor]) -> Path:
    kohya_file(path, lora_weights(folder, text=False), 2.0)
    save_file(load_file(path) | {f"bundle_emb.{name}": tensor for name, tensor in words.items()}, path)
    return path


def vectors_of(text: Any, written: str, encoder: int = 0) -> Tensor:
    return text.modules[encoder].get_input_embeddings().weight[text.token_ids(written)]


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_words_are_read_with_the_lora(tiny_sd: Path, tmp_path: Path, scale: float) -> None:
    words = {"ink.string_to_param.*": torch.randn(3, 16), "<oil>.emb_params": torch.randn(1, 16)}
    file = bundle(tiny_sd, tmp_path / "x.safetensors", words)
    model = load(tiny_sd, lora=(file, scale))
    assert model.warnings == ()
    expected = torch.cat(list(words.values()))
    torch.testing.assert_close(vectors_of(model.text, "ink <oil>"), expected)
    plain = load(tiny_sd, lora=(kohya_file(tmp_path / "y.safetensors", lora_weights(tiny_sd, text=False), 2.0), scale))
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    assert torch.equal(model.net.unet.state_dict()[name], plain.net.unet.state_dict()[name])


def test_words_of_xl_have_both_encoders_vectors(tiny_xl: Path, tmp_path: Path) -> None:
    vectors = (torch.randn(2, 16), torch.randn(2, 24))
    own = dict(zip(("ink.clip_l", "ink.clip_g"), vectors, strict=True))
    text = load(tiny_xl, lora=bundle(tiny_xl, tmp_path / "x.safetensors", own)).text
    for number, expected in enumerate(vectors):
        torch.testing.assert_close(vectors_of(text, "ink", number), expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"ink.clip_l": (1, 16), "ink.clip_g": (1, 24)}, "vectors for two text encoders"),
        ({"ink.emb_params": (1, 99)}, "its vectors have 99 numbers"),
        ({"ink.twist": (1, 16)}, 'learned word "ink" with "twist", which is not supported'),
    ],
)
def test_words_that_do_not_fit_are_refused(
    tiny_sd: Path, tmp_path: Path, words: dict[str, tuple[int, int]], message: str
) -> None:
    own = {name: torch.randn(shape) for name, shape in words.items()}
    with pytest.raises(CheckpointError, match=message):
        load(tiny_sd, lora=bundle(tiny_sd, tmp_path / "x.safetensors", own))


def test_words_cannot_apply_by_region(tiny_sd: Path, tmp_path: Path) -> None:
    file = bundle(tiny_sd, tmp_path / "x.safetensors", {"ink.emb_params": torch.randn(1, 16)})
    with pytest.raises(CheckpointError, match='bundles the learned words "ink", which cannot apply by region'):
        load(tiny_sd, regional_lora={"x": file})
