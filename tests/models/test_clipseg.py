"""CLIPSeg: transformers' own layout, a family's decoder, and a gradient to the picture."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_tokenizer
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from cloisonne.errors import CheckpointError
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.clipseg import CLIPSEG, DECODER, Segmenter, load_segmenter
from cloisonne.models.load import load
from cloisonne.train.clipseg import PHRASES, example

TEXTS = ["a red car", "the beach"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random one in the layout of CIDAS/clipseg-rd64-refined."""
    folder = tmp_path_factory.mktemp("clipseg")
    torch.manual_seed(0)
    words = tiny_tokenizer(0)
    special = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 4}
    config = CLIPSegConfig(
        text_config={**shape, **special, "vocab_size": len(words), "max_position_embeddings": 16},
        vision_config={**shape, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        extract_layers=[0, 1, 3],
        reduce_dim=8,
        decoder_intermediate_size=16,
        use_complex_transposed_convolution=True,
    )
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def pictures(height: int = 48, width: int = 48) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_published_layout_gives_the_same_maps(published: Path) -> None:
    ours = load_segmenter(published)
    module = CLIPSegForImageSegmentation.from_pretrained(published).eval()
    told = ours.tokenizer(TEXTS, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    with torch.no_grad():
        theirs = module(told.input_ids, pictures().expand(2, -1, -1, -1), attention_mask=told.attention_mask).logits
        own = ours.found(ours.seen(pictures(), normalise=False), ours.words(TEXTS))
    assert torch.allclose(own, theirs.reshape(own.shape), atol=1e-5)


def test_maps_have_a_gradient_to_the_picture_and_weights_have_none(published: Path) -> None:
    ours = load_segmenter(published)
    shown = pictures().requires_grad_(True)
    ours.found(ours.seen(shown), ours.words(TEXTS)).sum().backward()
    assert shown.grad is not None
    assert float(shown.grad.abs().max()) > 0
    assert all(weight.grad is None for weight in ours.module.parameters())


@pytest.mark.parametrize("size", [(32, 56), (41, 30)])
def test_any_picture_is_looked_at(published: Path, size: tuple[int, int]) -> None:
    ours = load_segmenter(published)
    maps = ours.found(ours.seen(pictures(*size)), ours.words(TEXTS))
    assert maps.shape[0] == 2
    assert maps.shape[1] == maps.shape[2]


def test_a_model_may_be_given_one(published: Path, tmp_path: Path) -> None:
    assert isinstance(load("builtin", segmenter=published).segmenter(), Segmenter)  # type: ignore[misc]
    with pytest.raises(CheckpointError, match="no folder of CLIPSeg"):
        load("builtin", segmenter=tmp_path)


def test_the_familys_finds_what_is_there() -> None:
    segmenter = load("builtin").segmenter
    assert segmenter is not None
    own, rng = segmenter(), np.random.default_rng(1)
    shown = [example(10**6 + k, rng) for k in range(8)]
    inside, outside = [], []
    for one in shown:
        seen = own.seen(torch.from_numpy(one.pixels).permute(2, 0, 1)[None].float() / 127.5 - 1)
        maps = own.found(seen, own.words(one.phrases[:1]))[0]
        where = torch.from_numpy(one.masks[0]) > 0
        inside.append(float(maps[where].mean()))
        outside.append(float(maps[~where].mean()))
    assert np.mean(inside) > np.mean(outside) + 3


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    for member in ("clip", CLIPSEG, "tokenizer"):
        shutil.copytree(BUILTIN / member, tmp_path / member)
    tensors = load_file(tmp_path / CLIPSEG / DECODER)
    tensors.pop("decoder.film_mul.weight")
    save_file(tensors, tmp_path / CLIPSEG / DECODER)
    with pytest.raises(CheckpointError, match="film_mul"):
        load_segmenter(tmp_path / CLIPSEG, tmp_path / "tokenizer")


def test_examples_say_where_things_are_and_that_others_are_not() -> None:
    rng = np.random.default_rng(0)
    masks = [example(k, rng).masks for k in range(30)]
    assert all(own.shape == (PHRASES, 128, 128) for own in masks)
    assert all(own[: PHRASES // 2].any((1, 2)).all() for own in masks)
    assert np.mean([own[PHRASES // 2 :].any() for own in masks]) < 0.2
