"""What training writes is a pipeline that stock diffusers runs, and a model of ours with method reco."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from trained import quiet

import cloisonne
from cloisonne.methods.reco import Vocabulary, sequence
from cloisonne.models.builtin import digest, members
from cloisonne.models.load import load
from cloisonne.scene.shapes.geometry import Box
from cloisonne.train.reco.settings import Settings
from cloisonne.train.reco.task import train
from cloisonne.train.reco.vocabulary import extend

Quick = Callable[..., Settings]
BOX = (0.1, 0.25, 0.6, 0.75)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, pictures: Path, tiny_sd: Path) -> Path:
    """A pipeline of two steps, 1000 bins and 616 tokens: the defaults."""
    output = tmp_path_factory.mktemp("trained") / "out"
    settings = Settings(
        base=str(tiny_sd), data=str(pictures), output=output, train_batch_size=2, max_train_steps=2, device="cpu"
    )
    train(settings, quiet)
    return output


def stock(folder: Path) -> Any:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def hub_string(v: Vocabulary, caption: str, regions: list[tuple[Box, str]]) -> str:
    """As the published port in diffusers writes it."""
    text = f"{caption} <|endoftext|>"
    for box, phrase in regions:
        bins = " ".join(f"<bin{round(value * (v.bins - 1)):03d}>" for value in box)
        text += f" {bins} <|startoftext|> {phrase} <|endoftext|>"
    return text


def test_stock_diffusers_draws_with_the_published_string(trained: Path) -> None:
    pipeline = stock(trained)
    prompt = hub_string(Vocabulary.of(pipeline.tokenizer), "on the beach", [(BOX, "a red cat")])
    drawn = [
        pipeline(text, num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np").images
        for text in (prompt, prompt, "on the beach")
    ]
    assert drawn[0].shape == (1, 64, 64, 3)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("count", [0, 1, 20])
def test_ids_are_those_of_the_published_string(trained: Path, count: int) -> None:
    pipeline = stock(trained)
    tokenizer = pipeline.tokenizer
    v = Vocabulary.of(tokenizer)
    assert (v.bins, v.length) == (1000, 616)
    regions = [((k / 40, 0.1, 0.5 + k / 40, 0.9), f"a {'red ' * (k % 3)}cat") for k in range(count)]
    ids, included = sequence(tokenizer, "a dog on the beach", regions)
    assert len(included) == count
    text = hub_string(v, "a dog on the beach", regions)
    assert tokenizer(text, padding="max_length", max_length=616, truncation=True).input_ids == ids
    hidden_states, _ = pipeline.encode_prompt(text, torch.device("cpu"), 1, False)
    torch.testing.assert_close(hidden_states[0], load(trained).text.encode_ids(ids).tokens, atol=1e-5, rtol=0)


def test_ours_loads_it_and_draws(trained: Path) -> None:
    model = cloisonne.load(trained)
    assert (model.native.method, model.text.length, model.schedule.prediction) == ("reco", 616, "epsilon")
    scene = cloisonne.Scene(
        caption="on the beach", regions=[cloisonne.Region(name="cat", box=BOX, phrase="a cat")], seed=0, steps=2
    )
    result = cloisonne.generate(scene, model)
    assert result.images[0].size == (64, 64)


def test_files(trained: Path) -> None:
    names = sorted(entry.name for entry in trained.iterdir())
    expected = ["checkpoint-2", "model_index.json", "scheduler", "text_encoder", "tokenizer", "training.json", "unet"]
    assert names == [*expected, "vae"]
    assert not [file for file in trained.rglob("*") if file.suffix in (".bin", ".pt", ".pkl", ".partial")]


def test_the_frozen_vae_and_the_schedule_are_the_bases(trained: Path, tiny_sd: Path) -> None:
    ours, theirs = (load_file(f / "vae" / "diffusion_pytorch_model.safetensors") for f in (trained, tiny_sd))
    assert all(torch.equal(values, theirs[name]) for name, values in ours.items())
    one, other = (json.loads((f / "scheduler" / "scheduler_config.json").read_text()) for f in (trained, tiny_sd))
    assert one == other


def test_text_encoder_and_unet_have_learned_together(trained: Path, tiny_sd: Path) -> None:
    for member in ("text_encoder/model", "unet/diffusion_pytorch_model"):
        ours, theirs = (load_file(folder / f"{member}.safetensors") for folder in (trained, tiny_sd))
        assert any(not torch.equal(values, theirs[n]) for n, values in ours.items() if values.shape == theirs[n].shape)


@pytest.mark.parametrize("lora", [False, True])
def test_a_family_stays_one(quick: Quick, tiny_family: Path, tmp_path: Path, lora: bool) -> None:
    """Its vae works on pixel-unshuffled images, it predicts v, and its 16 bins and 77 tokens are preserved."""
    base = tmp_path / "base"
    shutil.copytree(tiny_family, base)
    for member, parents in {"vae": (), "unet": ("vae",)}.items():
        made = {"sha256": digest(base / member), "parents": {parent: digest(base / parent) for parent in parents}}
        (base / member / "provenance.json").write_text(json.dumps(made))
    losses = train(quick(base=str(base), num_bins=None, max_length=None, lora=lora), quiet)
    assert len(losses) == 4
    model = load(tmp_path / "out")
    assert (model.family, model.native.method, model.native.width) == ("builtin", "reco", 64)
    assert (model.text.length, model.schedule.prediction) == (77, "v_prediction")
    assert Vocabulary.of(model.text.tokenizer).bins == 16
    assert members(tmp_path / "out") == []


def test_adapters_are_merged_and_lie_apart_for_the_base(quick: Quick, tiny_sd: Path, tmp_path: Path) -> None:
    train(quick(lora=True, rank=4, learning_rate=1e-2), quiet)
    output = tmp_path / "out"
    merged, fresh = stock(output), stock(tiny_sd)
    assert sorted(f.name for f in (output / "lora").iterdir()) == [
        "position_rows.safetensors",
        "pytorch_lora_weights.safetensors",
    ]
    words = len(fresh.tokenizer)
    extend(fresh.tokenizer, fresh.text_encoder, bins=16, length=128)
    rows = load_file(output / "lora" / "position_rows.safetensors")
    assert {name: tuple(table.shape) for name, table in rows.items()} == {
        "token_embedding": (16, 16),
        "position_embedding": (128 - 77, 16),
    }
    tables = fresh.text_encoder.embeddings
    with torch.no_grad():
        begun = tables.token_embedding.weight[words:].clone()
        tables.token_embedding.weight[words:] = rows["token_embedding"]
        tables.position_embedding.weight[77:] = rows["position_embedding"]
    assert not torch.equal(begun, rows["token_embedding"])
    z, t = torch.randn(1, 4, 8, 8), torch.tensor([300])
    ids = torch.tensor([sequence(fresh.tokenizer, "on the beach", [(BOX, "a cat")])[0]])
    with torch.no_grad():
        plain = fresh.unet(z, t, encoder_hidden_states=fresh.text_encoder(ids)[0]).sample
        fresh.load_lora_weights(output / "lora")
        apart = fresh.unet(z, t, encoder_hidden_states=fresh.text_encoder(ids)[0]).sample
        together = merged.unet(z, t, encoder_hidden_states=merged.text_encoder(ids)[0]).sample
    torch.testing.assert_close(apart, together, atol=1e-5, rtol=0)
    assert float((plain - together).abs().max()) > 1e-3
    base, ours = (pipeline.text_encoder.embeddings.token_embedding.weight for pipeline in (stock(tiny_sd), merged))
    assert torch.equal(ours[:words], base)
    assert load(output).native.method == "reco"
