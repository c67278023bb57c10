"""FLUX.1 and Stable Diffusion 3 in one file are the model of the folder, in the layout that diffusers also reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_flux_transformer_checkpoint_to_diffusers,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from flux import flux_vae, write_flux
from ldm import ldm_vae
from original_names import original
from safetensors.torch import load_file, save_file
from sd3 import write_sd3
from torch import Tensor

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.checkpoints.mmdit.original_names import originals_of
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

ENCODERS = {"flux": ("clip_l", "t5xxl"), "sd3": ("clip_l", "clip_g", "t5xxl")}
NETWORK = "model.diffusion_model."
SCENE = Scene(
    caption="a red cat",
    seed=0,
    steps=2,
    width=64,
    height=64,
    regions=[Region(name="pet", box=(0, 0, 0.5, 1), phrase="a dog")],
)


def rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def write(folder: Path, kind: str) -> Path:
    """A folder with the heads, activations and constants of the published models."""
    heads = {"attention_head_dim": 128, "num_attention_heads": 1, "axes_dims_rope": (16, 56, 56)}
    if kind.startswith("flux"):
        write_flux(folder, embedded=kind == "flux", transformer=heads)
        rewrite(folder / "scheduler" / "scheduler_config.json", base_image_seq_len=256, max_image_seq_len=4096)
        rewrite(folder / "text_encoder" / "config.json", num_attention_heads=1, hidden_act="quick_gelu")
        flux_vae(32, 32).save_pretrained(folder / "vae")
        return folder
    own = {"attention_head_dim": 64, "num_attention_heads": 1, "caption_projection_dim": 64, "sample_size": 128}
    kind, t5 = kind.removeprefix("sd3 ").removesuffix(" without T5"), not kind.endswith("without T5")
    write_sd3(folder, kind, transformer=own, t5=t5)
    flux_vae(32, 32).save_pretrained(folder / "vae")
    rewrite(folder / "vae" / "config.json", scaling_factor=1.5305, shift_factor=0.0609)
    rewrite(folder / "text_encoder" / "config.json", num_attention_heads=1, hidden_act="quick_gelu")
    rewrite(folder / "text_encoder_2" / "config.json", num_attention_heads=1, hidden_act="gelu")
    return folder


def write_file(file: Path, model: Model, *, vae: str = "first_stage_model.") -> dict[str, Tensor]:
    tensors = {f"{NETWORK}{name}": tensor for name, tensor in original(model).items()}
    for name, module in zip(ENCODERS[model.family], model.text.modules, strict=False):
        for key, tensor in module.state_dict().items():
            if not key.endswith("embed_tokens.weight"):
                # Trainers wrote the names of transformers 4.
                old = key if name == "t5xxl" or key.startswith(("text_model.", "text_proj")) else f"text_model.{key}"
                tensors[f"text_encoders.{name}.transformer.{old}"] = tensor
    tensors |= {vae + n.removeprefix("first_stage_model."): t for n, t in ldm_vae(model.vae.module).items()}
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, file)
    return tensors


KINDS = ("flux", "flux schnell", "sd3 3", "sd3 3.5 medium", "sd3 3.5 large without T5")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write(tmp_path_factory.mktemp("made"), kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_model_of_the_folder(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    model, file = load(folders[kind]), tmp_path / "x.safetensors"
    write_file(file, model, vae="vae." if kind == "flux" else "first_stage_model.")
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
        (lambda t: {n: own for n, own in t.items() if "t5xxl" not in n}, r"no whole checkpoint of FLUX.1.*t5xxl"),
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
