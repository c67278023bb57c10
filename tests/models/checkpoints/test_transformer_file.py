"""Diffusion transformers in one file are the model of the folder, in the layout that diffusers also reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_flux_transformer_checkpoint_to_diffusers,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from original_names import original
from safetensors.torch import load_file, save_file
from transformer_files import NETWORK, write_file, write_folder_of

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.checkpoints.mmdit.original_names import originals_of
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

SCENE = Scene(
    caption="a red cat",
    seed=0,
    steps=2,
    width=64,
    height=64,
    regions=[Region(name="pet", box=(0, 0, 0.5, 1), phrase="a dog")],
)


KINDS = (
    *("flux", "flux schnell", "sd3 3", "sd3 3.5 medium", "sd3 3.5 large without T5"),
    *("flux2", "flux2 base", "zimage turbo", "zimage"),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_folder_of(tmp_path_factory.mktemp("made"), kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_model_of_the_folder(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    model, file = load(folders[kind]), tmp_path / f"{kind.replace(' ', '-')}.safetensors"
    write_file(file, model, vae="first_stage_model." if kind.startswith("sd3") else "vae.")
    found = load(file, tokenizer=folders[kind])
    assert (found.family, found.native, found.spec) == (model.family, model.native, model.spec)
    assert found.schedule == model.schedule
    assert found.warnings == ()
    pairs = zip(
        (found.net.module, found.vae.module, *found.text.modules),
        (model.net.module, model.vae.module, *model.text.modules),
        strict=True,
    )
    for ours, theirs in pairs:
        state = theirs.state_dict()
        assert ours.state_dict().keys() == state.keys()
        assert [name for name, tensor in ours.state_dict().items() if not torch.equal(tensor, state[name])] == []
    # Where its tensors begin in memory changes the last bits of a product.
    results = [generate(SCENE, own) for own in (found, model)]
    torch.testing.assert_close(results[0].latents, results[1].latents, atol=1e-5, rtol=0)
    images = [np.asarray(result.image, np.int16) for result in results]
    assert np.abs(images[0] - images[1]).max() <= 1


@pytest.mark.parametrize("kind", ["flux", "sd3 3.5 medium"])
def test_the_layout_is_that_which_diffusers_reads(folders: dict[str, Path], kind: str) -> None:
    model = load(folders[kind])
    convert = {
        "flux": convert_flux_transformer_checkpoint_to_diffusers,
        "sd3": convert_sd3_transformer_checkpoint_to_diffusers,
    }[model.family]
    tensors = {name: tensor.clone() for name, tensor in original(model).items()}
    state = dict(model.net.module.state_dict())
    sizes = (3072, 3072, 3072, 4 * 3072)  # the only ones that diffusers divides
    for own in originals_of(model.family, model.net.module.config):
        if own.name.endswith("linear1"):
            for end in ("weight", "bias"):
                tensors[f"{own.name}.{end}"] = torch.randn(sum(sizes))
                parts = tensors[f"{own.name}.{end}"].split(sizes)
                state |= {f"{layer}.{end}": part for layer, part in zip(own.layers, parts, strict=True)}
    converted = convert(tensors)
    assert converted.keys() == state.keys()
    assert [name for name, tensor in converted.items() if not torch.equal(tensor, state[name])] == []


def test_float8_is_read(folders: dict[str, Path], tmp_path: Path) -> None:
    model, file = load(folders["flux"]), tmp_path / "x.safetensors"
    tensors = write_file(file, model)
    halves = {n: t.to(torch.float8_e4m3fn) if n.startswith(NETWORK) else t.clone() for n, t in tensors.items()}
    save_file({name: tensor.contiguous() for name, tensor in halves.items()}, file)
    found = load(file, tokenizer=folders["flux"]).net.module.x_embedder.weight
    assert torch.equal(found, model.net.module.state_dict()["x_embedder.weight"].to(torch.float8_e4m3fn).float())


def test_scaled_float8_is_read(folders: dict[str, Path], tmp_path: Path) -> None:
    """Of the transformer and of T5, whose weights are converted."""
    model, file = load(folders["flux"]), tmp_path / "x.safetensors"
    tensors = {name: tensor.clone() for name, tensor in write_file(file, model).items()}
    t5 = "text_encoders.t5xxl.transformer."
    marked = (f"{NETWORK}img_in", f"{t5}encoder.block.0.layer.0.SelfAttention.q")
    for name in marked:
        tensors[f"{name}.weight"] = (tensors[f"{name}.weight"] * 50).to(torch.float8_e4m3fn)
        tensors |= {f"{name}.scale_weight": torch.tensor(0.02)}
    tensors |= {f"{NETWORK}scaled_fp8": torch.zeros(0), f"{t5}scaled_fp8": torch.zeros(0)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    found = load(file, tokenizer=folders["flux"])
    assert found.warnings == ()
    pairs = (
        (found.net.module.x_embedder, marked[0]),
        (found.text.modules[1].encoder.block[0].layer[0].SelfAttention.q, marked[1]),
    )
    for layer, name in pairs:
        assert torch.equal(layer.weight, tensors[f"{name}.weight"].float() * 0.02)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda t: {n: own for n, own in t.items() if "t5xxl" not in n},
            r"no whole checkpoint of FLUX.1: it has no text encoder T5",
        ),
        (lambda t: {n.removeprefix(NETWORK): own for n, own in t.items() if NETWORK in n}, "no whole checkpoint of F"),
        (lambda t: t | {f"{NETWORK}img_in.scale_weight": torch.ones(1)}, "as float32 of shape"),
        (lambda t: {n: own for n, own in t.items() if "linear1.bias" not in n}, "lacks the tensor"),
        (lambda t: t | {f"{NETWORK}double_blocks.0.img_other.weight": torch.zeros(2)}, "img_other"),
    ],
    ids=["T5", "alone", "scaled", "missing", "unknown"],
)
def test_what_is_not_supported_is_refused(folders: dict[str, Path], tmp_path: Path, change: Any, expected: str) -> None:
    file = tmp_path / "x.safetensors"
    write_file(file, load(folders["flux"]))
    save_file(change(load_file(file)), file)
    with pytest.raises(CheckpointError, match=expected):
        load(file, tokenizer=folders["flux"])


def test_what_is_unused_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    write_file(file, load(folders["flux"]))
    save_file(load_file(file) | {"other.weight": torch.zeros(2)}, file)
    assert any('"other.weight"' in warning for warning in load(file, tokenizer=folders["flux"]).warnings)


def test_tokenizers_and_add_ons(folders: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    write_file(file, load(folders["flux"]))
    with pytest.raises(CheckpointError, match=r"holds no tokenizers.*load\(..., tokenizer=FOLDER\)"):
        load(file)
    with pytest.raises(CheckpointError, match="has none of the name tokenizer"):
        load(file, tokenizer=tmp_path)
    with pytest.raises(CapabilityError, match="takes no embeddings"):
        load(file, tokenizer=folders["flux"], embeddings=["x.safetensors"])
