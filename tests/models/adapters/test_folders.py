"""Folders of add-on networks: every tensor and every key of config.json is used, named or refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from controlled import SD1, beside
from diffusers import T2IAdapter
from pictured import published as ip_adapter
from pictured import tower
from safetensors.torch import load_file, save_file
from tiny import tiny_tokenizer, write_checkpoint, write_exemplar
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from cloisonne.errors import CheckpointError
from cloisonne.models.load import load
from cloisonne.models.model import Model


def adapter(base: Path, folder: Path) -> dict[str, Any]:
    module = T2IAdapter(3, [8, 16], num_res_blocks=1, downscale_factor=8, adapter_type="full_adapter")
    module.save_pretrained(folder)
    return {"adapters": {"depth": folder}}


def controlnet(base: Path, folder: Path) -> dict[str, Any]:
    beside(base, 5).save_pretrained(folder)
    return {"adapters": {"canny": folder}}


def painter(base: Path, folder: Path) -> dict[str, Any]:
    write_exemplar(folder.parent)
    return {"exemplar": folder.parent}


def image_encoder(base: Path, folder: Path) -> dict[str, Any]:
    vision = tower(32)
    vision.save_pretrained(folder)
    file = folder.parent / "ip.safetensors"
    save_file(ip_adapter(base, "plain", vision), file)
    return {"exemplar": file, "image_encoder": folder}


def segmenter(base: Path, folder: Path) -> dict[str, Any]:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    words = tiny_tokenizer(0)
    config = CLIPSegConfig(
        text_config=shape | {"vocab_size": len(words), "max_position_embeddings": 16},
        vision_config=shape | {"image_size": 32, "patch_size": 8},
        extract_layers=[0, 1],
        reduce_dim=8,
    )
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return {"segmenter": folder}


MAKERS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "T2I-Adapter": adapter,
    "ControlNet": controlnet,
    "Paint by Example": painter,
    "image encoder": image_encoder,
    "CLIPSeg": segmenter,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("base"), unet=SD1)


@pytest.fixture(scope="module")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    for name, make in MAKERS.items():
        make(base, member(root / name, name))
    return root


def member(folder: Path, name: str) -> Path:
    """The folder with the network that is read."""
    return folder / ("image_encoder" if name == "Paint by Example" else "member")


@pytest.fixture
def given(made: Path, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, dict[str, Any]]:
    """A copy of the folder that a test is about, and how it is loaded."""
    name = request.param
    copy = shutil.copytree(made / name, tmp_path / "copy")
    folder = member(copy, name)
    options: dict[str, Any] = {
        "T2I-Adapter": {"adapters": {"depth": folder}},
        "ControlNet": {"adapters": {"canny": folder}},
        "Paint by Example": {"exemplar": copy},
        "image encoder": {"exemplar": copy / "ip.safetensors", "image_encoder": folder},
        "CLIPSeg": {"segmenter": folder},
    }
    return folder, options[name]


def read(base: Path, options: dict[str, Any]) -> Model:
    model = load(base, **options)
    if "segmenter" in options and model.segmenter is not None:
        model.segmenter()  # reads the folder on first use
    return model


def weights(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


@pytest.mark.parametrize("given", MAKERS, indirect=True)
def test_a_folder_as_published_is_read_without_a_warning(base: Path, given: tuple[Path, dict[str, Any]]) -> None:
    assert read(base, given[1]).warnings == ()


@pytest.mark.parametrize("given", MAKERS, indirect=True)
def test_a_tensor_that_is_not_used_is_named(base: Path, given: tuple[Path, dict[str, Any]]) -> None:
    folder, options = given
    file = weights(folder)
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file(tensors | {"twist.weight": torch.zeros(1)}, file, metadata={"format": "pt"})
    if "segmenter" in options:
        with pytest.raises(CheckpointError, match=r'1 tensor that is not used: "twist\.weight"; remove'):
            read(base, options)
    else:
        (warning,) = read(base, options).warnings
        assert '"twist.weight"' in warning
        assert str(folder) in warning


@pytest.mark.parametrize("given", MAKERS, indirect=True)
def test_a_key_that_is_not_known_is_refused_with_its_value(base: Path, given: tuple[Path, dict[str, Any]]) -> None:
    folder, options = given
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"twist": 0.25}))
    with pytest.raises(CheckpointError, match=r"has twist 0\.25, which") as caught:
        read(base, options)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("given", MAKERS, indirect=True)
def test_a_variant_alone_is_read(base: Path, given: tuple[Path, dict[str, Any]]) -> None:
    folder, options = given
    plain = read(base, options).parameters
    weights(folder).rename(weights(folder).with_suffix(".fp16.safetensors"))
    found = read(base, options)
    assert (found.parameters, found.warnings) == (plain, ())
    weights(folder).rename(folder / weights(folder).name.replace("fp16", "non_ema"))
    if "segmenter" not in options:
        (warning,) = read(base, options).warnings
        assert 'holds only the variant "non_ema"' in warning


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ("ControlNet", "class_embed_type", "timestep"),
        ("T2I-Adapter", "_class_name", "MultiAdapter"),
        ("image encoder", "model_type", "siglip_vision_model"),
        ("Paint by Example", "model_type", "siglip_vision_model"),
        ("CLIPSeg", "vision_config", {"window": 2.0}),
    ],
    indirect=["given"],
)
def test_a_value_that_is_not_honoured_is_refused(
    base: Path, given: tuple[Path, dict[str, Any]], key: str, value: Any
) -> None:
    folder, options = given
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config[key] = config[key] | value if isinstance(value, dict) else value
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=next(iter(value)) if isinstance(value, dict) else value):
        read(base, options)


def test_a_text_encoders_keys_are_known_or_refused(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "copy")
    file = folder / "text_encoder/config.json"
    config = json.loads(file.read_text())
    older = {"dropout": 0.0, "torch_dtype": "float16", "max_length": 20, "pruned_heads": {}, "window": None}
    file.write_text(json.dumps(config | older))
    assert load(folder).warnings == ()
    file.write_text(json.dumps({"model_type": "clip", "text_config": config, "text_config_dict": {"hidden_size": 16}}))
    assert load(folder).warnings == ()
    file.write_text(json.dumps(config | {"window": {"factor": 2.0}}))
    with pytest.raises(CheckpointError, match=r'has window \{"factor": 2\.0\}, which CLIPTextConfig'):
        load(folder)
