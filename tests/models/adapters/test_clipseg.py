"""CLIPSeg: transformers' own layout, a family's decoder, and a gradient to the image."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_tokenizer
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from cloisonne.errors import CheckpointError
from cloisonne.models.adapters.clipseg import CLIPSEG, DECODER, Segmenter, load_segmenter
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.train.builtin import clipseg
from cloisonne.train.builtin.clipseg import PHRASES, example
from cloisonne.train.loop import load_average, run
from cloisonne.world.draw import Drawn, draw
from cloisonne.world.glyphs import COLOURS, words_of
from cloisonne.world.picture import Item

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


def images(height: int = 48, width: int = 48) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_published_layout_gives_the_same_maps(published: Path) -> None:
    ours = load_segmenter(published)
    module = CLIPSegForImageSegmentation.from_pretrained(published).eval()
    encoded = ours.tokenizer(TEXTS, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    with torch.no_grad():
        theirs = module(encoded.input_ids, images().expand(2, -1, -1, -1), attention_mask=encoded.attention_mask).logits
        own = ours.logits(ours.image_features(images(), normalise=False), ours.encode_texts(TEXTS))
    assert torch.allclose(own, theirs.reshape(own.shape), atol=1e-5)


def test_maps_have_a_gradient_to_the_image_and_weights_have_none(published: Path) -> None:
    ours = load_segmenter(published)
    image = images().requires_grad_(True)
    ours.logits(ours.image_features(image), ours.encode_texts(TEXTS)).sum().backward()
    assert image.grad is not None
    assert float(image.grad.abs().max()) > 0
    assert all(weight.grad is None for weight in ours.module.parameters())


def test_the_forward_of_transformers_has_no_gradient_to_the_image(published: Path) -> None:
    """Which is why its parts are called one by one; when this fails, that can end."""
    ours = load_segmenter(published)
    encoded = ours.tokenizer(TEXTS[:1], padding="max_length", max_length=16, return_tensors="pt")
    assert not ours.module(encoded.input_ids, images().requires_grad_(True)).logits.requires_grad


@pytest.mark.parametrize("size", [(32, 56), (41, 30)])
def test_images_of_any_size_are_segmented(published: Path, size: tuple[int, int]) -> None:
    ours = load_segmenter(published)
    maps = ours.logits(ours.image_features(images(*size)), ours.encode_texts(TEXTS))
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
    examples = [example(10**6 + k, rng) for k in range(8)]
    inside, outside = [], []
    for one in examples:
        seen = own.image_features(torch.from_numpy(one.pixels).permute(2, 0, 1)[None].float() / 127.5 - 1)
        maps = own.logits(seen, own.encode_texts(one.phrases[:1]))[0]
        where = torch.from_numpy(one.masks[0]) > 0
        inside.append(float(maps[where].mean()))
        outside.append(float(maps[~where].mean()))
    assert np.mean(inside) > np.mean(outside) + 3


@pytest.mark.parametrize(
    ("file", "lost"),
    [
        (f"{CLIPSEG}/{DECODER}", "decoder.film_mul.weight"),
        ("clip/model.safetensors", "vision_model.encoder.layers.0.layer_norm1.bias"),
    ],
)
def test_a_damaged_member_is_refused(tmp_path: Path, file: str, lost: str) -> None:
    for member in ("clip", CLIPSEG, "tokenizer"):
        shutil.copytree(BUILTIN / member, tmp_path / member)
    without(tmp_path / file, lost)
    with pytest.raises(CheckpointError, match=lost):
        load_segmenter(tmp_path / CLIPSEG, tmp_path / "tokenizer")


def test_a_published_one_that_lacks_a_tensor_is_refused(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path / CLIPSEG)
    without(tmp_path / CLIPSEG / "model.safetensors", "decoder.film_add.bias")
    with pytest.raises(CheckpointError, match=r"lacks 1 tensors, such as decoder\.film_add\.bias"):
        load_segmenter(tmp_path / CLIPSEG)


def without(file: Path, name: str) -> None:
    tensors = load_file(file)
    tensors.pop(name)
    save_file(tensors, file, metadata={"format": "pt"})


def test_the_average_of_a_training_comes_back_and_what_is_frozen_stays(tmp_path: Path) -> None:
    segmenter = load_segmenter(BUILTIN / CLIPSEG, BUILTIN / "tokenizer")
    before = {name: tensor.clone() for name, tensor in segmenter.module.state_dict().items()}
    stage = clipseg.stage(segmenter, 1e-6)
    assert run(stage, tmp_path, report=lambda line: None)
    trained = {name: tensor.clone() for name, tensor in segmenter.module.state_dict().items()}
    frozen = {name for name in trained if f"{CLIPSEG}.{name}".startswith(stage.frozen)}
    assert {name for name in trained if torch.equal(trained[name], before[name])} >= frozen
    assert not torch.equal(trained["decoder.film_add.weight"], before["decoder.film_add.weight"])
    segmenter.module.load_state_dict(before)
    assert load_average(tmp_path, stage.modules, stage.frozen).step == 1
    assert all(torch.equal(tensor, trained[name]) for name, tensor in segmenter.module.state_dict().items())
    with pytest.raises(KeyError, match="lacks"):
        load_average(tmp_path, stage.modules)


def test_examples_mark_where_objects_are_and_that_others_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Drawn] = []

    def watched(*given: Any) -> Drawn:
        seen.append(draw(*given))
        return seen[-1]

    monkeypatch.setattr(clipseg, "draw", watched)
    rng = np.random.default_rng(0)
    examples = [example(k, rng) for k in range(30)]
    absent = 0
    for one, drawn in zip(examples, seen, strict=True):
        assert one.masks.shape == (PHRASES, 128, 128)
        for k, (phrase, mask) in enumerate(zip(one.phrases, one.masks, strict=True)):
            meant = [n for n, item in enumerate(drawn.picture.items, 1) if means(phrase, item)]
            assert np.array_equal(mask > 0, np.isin(drawn.labels, meant))
            assert meant or k >= PHRASES // 2
            absent += not mask.any()
    assert absent > 40


def means(phrase: str, item: Item) -> bool:
    """Whether a phrase is one of that thing, by its noun, and by its colour where it names one."""
    nouns = [noun for noun in words_of(item.char) if phrase == noun or phrase.endswith(f" {noun}")]
    adjectives = phrase.removesuffix(max(nouns, key=len)).split() if nouns else []
    return bool(nouns) and all(item.colour == word for word in adjectives if word in COLOURS)
