"""Training writes a PaintByExamplePipeline folder that diffusers and cloisonne load and generate with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, PaintByExamplePipeline, UNet2DConditionModel
from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from trained import quiet
from transformers import CLIPImageProcessorPil

import cloisonne
from cloisonne.models.adapters.paint_by_example import preprocessed
from cloisonne.train.exemplar.settings import Settings
from cloisonne.train.exemplar.student import widen
from cloisonne.train.exemplar.task import train

Quick = Callable[..., Settings]
BOX = (0.25, 0.25, 0.75, 0.75)
VISION = "model.vision_model."


def picture(seed: int, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


def settings_of(base: Path, data: Path, tower: Path, output: Path, **more: Any) -> Settings:
    given: dict[str, Any] = {
        "image_encoder": str(tower),
        "mapper_blocks": 2,
        "train_batch_size": 2,
        "max_train_steps": 3,
        "learning_rate": 1e-2,
        "device": "cpu",
    }
    return Settings(base=str(base), data=str(data), output=output, **given | more)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, pictures: Path, tiny_sd: Path, tower: Path) -> Path:
    output = tmp_path_factory.mktemp("trained") / "out"
    train(settings_of(tiny_sd, pictures, tower, output), quiet)
    return output


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, pictures: Path, tiny_sd: Path, tower: Path) -> Path:
    output = tmp_path_factory.mktemp("adapted") / "out"
    train(settings_of(tiny_sd, pictures, tower, output, lora=True, rank=4), quiet)
    return output


def unet_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")


def scene(exemplar: Image.Image, **more: Any) -> cloisonne.Scene:
    region = cloisonne.Region(name="pet", box=BOX, exemplar=exemplar)
    return cloisonne.Scene(seed=0, steps=2, regions=[region], background=picture(5), **more)


def test_files(trained: Path, adapted: Path) -> None:
    names = ["checkpoint-3", "image_encoder", "model_index.json", "scheduler", "training.json", "unet", "vae"]
    assert sorted(entry.name for entry in trained.iterdir()) == names
    assert sorted(entry.name for entry in adapted.iterdir()) == ["adapter", *names]
    assert not [file for file in trained.rglob("*") if file.suffix in (".bin", ".pt", ".pkl", ".partial")]


def test_the_record_is_written(trained: Path) -> None:
    made = json.loads((trained / "training.json").read_text())
    assert (made["steps"], made["pictures"], made["settings"]["mapper_blocks"]) == (3, 6, 2)


@pytest.mark.parametrize("made", ["trained", "adapted"])
def test_it_is_an_image_conditioned_model_and_generates(made: str, request: pytest.FixtureRequest) -> None:
    model = cloisonne.load(request.getfixturevalue(made))
    assert model.image_only
    one, again, other = (cloisonne.generate(scene(picture(k)), model) for k in (1, 1, 2))
    assert one.images[0].size == (64, 64)
    assert one.report["identical_outside"] is True
    assert torch.equal(one.latents, again.latents)
    assert not torch.equal(one.latents, other.latents), "the exemplar conditions the image"


@pytest.mark.parametrize("made", ["trained", "adapted"])
def test_it_generates_together_with_its_base(made: str, request: pytest.FixtureRequest, tiny_sd: Path) -> None:
    model = cloisonne.load(tiny_sd, exemplar=request.getfixturevalue(made))
    assert not model.image_only
    one, other = (cloisonne.generate(scene(picture(k), caption="on the beach"), model).latents for k in (1, 2))
    assert one.isfinite().all()
    assert not torch.equal(one, other)


def test_diffusers_encoder_gives_the_same_token(trained: Path) -> None:
    theirs: Any = PaintByExampleImageEncoder.from_pretrained(trained / "image_encoder")
    engine = cloisonne.load(trained).exemplar
    assert engine is not None
    pixels = preprocessed(picture(3, 40), engine.encoder.side)
    with torch.no_grad():
        token, null = theirs(pixels, return_uncond_vector=True)
    assert float(token.std()) > 0.01
    torch.testing.assert_close(engine.token(picture(3, 40)), token[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(engine.null, null[0], atol=1e-5, rtol=0)


def test_stock_diffusers_generates_with_it(trained: Path) -> None:
    scheduler: Any = DDIMScheduler.from_pretrained(trained / "scheduler")
    pipeline: Any = PaintByExamplePipeline(
        vae=AutoencoderKL.from_pretrained(trained / "vae", low_cpu_mem_usage=False),
        image_encoder=PaintByExampleImageEncoder.from_pretrained(trained / "image_encoder"),
        unet=UNet2DConditionModel.from_pretrained(trained / "unet", low_cpu_mem_usage=False),
        scheduler=scheduler,
        safety_checker=None,  # type: ignore[arg-type]
        feature_extractor=CLIPImageProcessorPil(),  # type: ignore[arg-type]
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    engine = cloisonne.load(trained).exemplar
    assert engine is not None
    drawn = pipeline(
        example_image=preprocessed(picture(1), engine.encoder.side),
        image=picture(5),
        mask_image=Image.new("L", (64, 64), 255),
        num_inference_steps=2,
        output_type="np",
    ).images
    assert drawn.shape == (1, 64, 64, 3)
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize("made", ["trained", "adapted"])
def test_the_image_encoder_is_bit_identical(made: str, request: pytest.FixtureRequest, tower: Path) -> None:
    given = load_file(tower / "model.safetensors")
    written = load_file(request.getfixturevalue(made) / "image_encoder" / "model.safetensors")
    own = {name.removeprefix(VISION): values for name, values in written.items() if name.startswith(VISION)}
    assert own.keys() == {name.removeprefix("vision_model.") for name in given}
    for name, values in given.items():
        assert own[name.removeprefix("vision_model.")].numpy().tobytes() == values.numpy().tobytes()


def test_vae_and_schedule_are_the_bases(trained: Path, tiny_sd: Path) -> None:
    ours, theirs = (load_file(f / "vae" / "diffusion_pytorch_model.safetensors") for f in (trained, tiny_sd))
    assert all(torch.equal(values, theirs[name]) for name, values in ours.items())
    one, other = (json.loads((f / "scheduler" / "scheduler_config.json").read_text()) for f in (trained, tiny_sd))
    assert one == other


def test_without_adapters_every_layer_has_learned(trained: Path, tiny_sd: Path) -> None:
    """But for the queries and keys of cross attention: of one token, the softmax is 1 whatever they are."""
    ours, theirs = unet_of(trained), unet_of(tiny_sd)
    assert ours.keys() == theirs.keys()
    base = {name: values for name, values in theirs.items() if name != "conv_in.weight"}
    still = {name for name, values in base.items() if torch.equal(values, ours[name])}
    assert all("attn2.to_" in name for name in still)
    first = ours["conv_in.weight"]
    assert not torch.equal(first[:, :4], theirs["conv_in.weight"][:, :4])
    assert bool(first[:, 4:].any())


def test_merged_unet_is_the_base_plus_the_adapters(adapted: Path, tiny_sd: Path) -> None:
    base, merged, apart = unet_of(tiny_sd), unet_of(adapted), load_file(adapted / "adapter" / "model.safetensors")
    downs = [name for name in apart if name.endswith(".down")]
    assert len(downs) > 20
    changed = set()
    for name in downs:
        layer = name.removeprefix("unet.").removesuffix(".down")
        down, up = apart[name], apart[name.removesuffix(".down") + ".up"]
        assert len(down) == 4
        delta = (up.flatten(1) @ down.flatten(1)).reshape(base[f"{layer}.weight"].shape)
        assert bool(delta.any()), layer
        torch.testing.assert_close(merged[f"{layer}.weight"], base[f"{layer}.weight"] + delta, atol=1e-6, rtol=0)
        changed.add(f"{layer}.weight")
    for name in ("conv_in.weight", "conv_in.bias"):
        assert torch.equal(merged[name], apart[f"unet.{name}"])
        changed.add(name)
    assert merged.keys() == base.keys()
    assert all(torch.equal(merged[name], base[name]) for name in base.keys() - changed)


def test_the_adapter_file_has_the_encoder_head_without_the_image_encoder(adapted: Path) -> None:
    apart = load_file(adapted / "adapter" / "model.safetensors")
    heads = {name.split(".")[1] for name in apart if name.startswith("encoder.")}
    assert heads == {"mapper", "norm", "project", "null"}
    engine = cloisonne.load(adapted).exemplar
    assert engine is not None
    ours = engine.encoder.state_dict()
    for name, values in apart.items():
        if name.startswith("encoder."):
            assert torch.equal(ours[name.removeprefix("encoder.")], values)


def test_adapters_on_a_fresh_base_are_the_merged_network(adapted: Path, tiny_sd: Path) -> None:
    """Applied by hand, layer by layer."""
    apart = load_file(adapted / "adapter" / "model.safetensors")
    fresh, merged = (
        UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False).eval()
        for folder in (tiny_sd, adapted)
    )
    widen(fresh)
    with torch.no_grad():
        layers: dict[str, Any] = dict(fresh.named_modules())
        first = layers["conv_in"]
        first.weight.copy_(apart["unet.conv_in.weight"])
        first.bias.copy_(apart["unet.conv_in.bias"])
        for name in apart:
            if name.endswith(".down"):
                layer = layers[name.removeprefix("unet.").removesuffix(".down")]
                down, up = apart[name], apart[name.removesuffix(".down") + ".up"]
                layer.weight += (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape)
        z, hidden_states = torch.randn(1, 9, 8, 8), torch.randn(1, 1, 16)
        one, other = (unet(z, 300, encoder_hidden_states=hidden_states).sample for unet in (fresh, merged))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_one_token_per_patch_loads_and_generates(quick: Quick, tmp_path: Path) -> None:
    train(quick(context="all", max_train_steps=1), quiet)
    model = cloisonne.load(tmp_path / "out")
    assert model.exemplar is not None
    assert model.exemplar.token(picture(1)).shape == (5, 16)
    assert cloisonne.generate(scene(picture(1)), model).latents.isfinite().all()


def test_a_base_that_predicts_v_gives_a_model_that_does(quick: Quick, tmp_path: Path, tiny_family: Path) -> None:
    train(quick(base=str(tiny_family), max_train_steps=1), quiet)
    model = cloisonne.load(tmp_path / "out")
    assert model.schedule.prediction == "v_prediction"
    assert cloisonne.generate(scene(picture(1)), model).images[0].size == (64, 64)
