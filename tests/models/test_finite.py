"""Networks that give NaN or infinity: an error names the step or the autoencoder, whose weights, and what helps."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from controlled import beside
from lora_files import lora_weights, peft_file
from PIL import Image
from tiny import write_checkpoint

from cloisonne.core.samplers import SAMPLERS
from cloisonne.errors import CheckpointError, NotFiniteError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.translation.translate import translate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

LEFT = (0.0, 0.0, 0.5, 1.0)
SCENE = Scene(caption="a cat", seed=0, steps=4)
BAD = [math.nan, math.inf]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("sd"), unet={"mid_block_type": "UNetMidBlock2DCrossAttn"})


@pytest.fixture
def model(folder: Path) -> Model:
    return load(folder)


def spoil(module: Any, name: str, value: float = math.nan) -> None:
    with torch.no_grad():
        module.get_parameter(name).flatten()[0] = value


def photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8))


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_step_is_named_and_the_weights(model: Model, sampler: str, value: float) -> None:
    spoil(model.net.unet, "conv_out.bias", value)
    with pytest.raises(NotFiniteError) as caught:
        generate(SCENE.replace(sampler=sampler), model)
    assert str(caught.value) == (
        "The latents hold NaN or infinity after step 1 of 4: the weights of the denoiser hold some "
        '("conv_out.bias"); load a sound file.'
    )


def test_it_is_found_before_a_callback_sees_it(model: Model) -> None:
    seen: list[Any] = []
    spoil(model.net.unet, "conv_out.bias")
    with pytest.raises(CheckpointError, match="after step 1 of 4"):
        generate(SCENE, model, on_step=seen.append)
    assert seen == []


def test_the_text_encoder_is_named(model: Model) -> None:
    names = [name for name, _ in model.text.modules[0].named_parameters()]
    spoil(model.text.modules[0], next(name for name in names if name.endswith("final_layer_norm.bias")))
    with pytest.raises(NotFiniteError, match=r"the weights of the text encoder hold some \(.*final_layer_norm.bias"):
        generate(SCENE, model)


def test_a_controlnet_that_brings_it_in_is_named(folder: Path, tmp_path: Path) -> None:
    net = beside(folder, 1)
    spoil(net, "controlnet_mid_block.bias")
    net.save_pretrained(tmp_path / "canny")
    model = load(folder, adapters={"canny": tmp_path / "canny"})
    region = Region(name="edges", box=LEFT, phrase="a cat", control={"kind": "canny", "image": photo()})
    with pytest.raises(NotFiniteError, match=r'the weights of the ControlNet "canny" hold some \("controlnet_mid_'):
        generate(SCENE.replace(regions=(region,)), model)
    generate(SCENE, model)


@pytest.mark.parametrize("regional", [True, False], ids=["by region", "fused"])
def test_a_lora_that_brings_it_in_is_named(folder: Path, tmp_path: Path, regional: bool) -> None:
    made = lora_weights(folder, text=False)
    next(iter(made["unet"].values())).flatten()[0] = math.nan
    file = peft_file(tmp_path / "ink.safetensors", made)
    model = load(folder, **({"regional_lora": {"ink": file}} if regional else {"lora": file}))
    own = {"lora": {"ink": 1.0}} if regional else {}
    region = Region(name="pet", box=LEFT, phrase="a cat", **own)
    expected = 'the LoRA "ink" hold some' if regional else "the denoiser, into which 1 LoRA is fused, hold some"
    with pytest.raises(NotFiniteError, match=f"the weights of {expected}"):
        generate(SCENE.replace(regions=(region,)), model)


@pytest.mark.parametrize("value", BAD)
def test_an_autoencoder_is_named(model: Model, value: float) -> None:
    spoil(model.vae.module, "decoder.conv_out.bias", value)
    with pytest.raises(NotFiniteError) as caught:
        generate(SCENE, model)
    assert str(caught.value) == (
        "The autoencoder decoded finite numbers to NaN or infinity: its weights hold some "
        '("decoder.conv_out.bias"); load a sound file.'
    )
    assert torch.isfinite(generate(SCENE, model, output_type="latent").latents).all()


def test_an_autoencoder_that_overflows_is_named_though_its_weights_are_finite(model: Model) -> None:
    with torch.no_grad():
        model.vae.module.decoder.conv_out.weight.mul_(1e38)
        model.vae.module.decoder.conv_norm_out.weight.mul_(1e4)
    with pytest.raises(
        NotFiniteError, match="decoded finite numbers to NaN or infinity, though its weights are finite"
    ):
        generate(SCENE, model)


def test_an_encoder_is_named(model: Model) -> None:
    spoil(model.vae.module, "encoder.conv_out.bias")
    with pytest.raises(NotFiniteError, match="The autoencoder encoded finite numbers to NaN or infinity"):
        generate(SCENE.replace(background=photo(), strength=0.5), model)


def half(folder: Path) -> Model:
    return load(folder, dtype=torch.float16)


def test_half_precision_gets_the_advice_that_helps(folder: Path) -> None:
    decoder, unet = half(folder), half(folder)
    with torch.no_grad():
        decoder.vae.module.to(torch.float16).decoder.conv_out.weight.fill_(6e4)
        unet.net.unet.conv_out.weight.fill_(6e4)
    with pytest.raises(NotFiniteError, match=r'overflows float16, .*"force_upcast": true in .* bfloat16 or float32\.$'):
        generate(SCENE, decoder)
    with pytest.raises(NotFiniteError, match=r"step 1 of 4: a network overflows float16, .* in bfloat16 or float32\.$"):
        generate(SCENE, unet)


LEARN: dict[str, Any] = {"steps": 2, "rounds": 2, "batch": 1}
EDIT = Region(name="pet", box=LEFT, edit={"kind": "change", "from": "a cat", "to": "a dog"})
VERBS: dict[str, tuple[Callable[[Model], Any], str]] = {
    "edit": (lambda model: edit(SCENE.replace(regions=(EDIT,)), model), "after step 1 of 4"),
    "edit a background": (
        lambda model: edit(SCENE.replace(regions=(EDIT,), background=photo()), model),
        "of 4: the weights of the denoiser",
    ),
    "learn": (
        lambda model: translate(photo(), photo(1), model, preset="vct", **LEARN),
        "in training step 1 of 2: the",
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_other_verbs_name_it_too(model: Model, verb: str) -> None:
    draw, expected = VERBS[verb]
    spoil(model.net.unet, "conv_out.bias")
    with pytest.raises(NotFiniteError, match=expected):
        draw(model)
