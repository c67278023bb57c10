"""Checkpoints in one file, in exactly the published layouts, give the networks of the folder they came from."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ldm_files import parts, tensors_of
from safetensors.torch import load_file, save_file
from tiny import tiny_tokenizer
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.ldm.prediction import V_BIAS
from cloisonne.models.checkpoints.ldm.single_file import read_single_file
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate
from cloisonne.scene.scene import Scene

KINDS = ["sd1", "sd1 inpaint", "reco", "sd2", "xl", "xl inpaint"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    tiny_tokenizer(0).save_pretrained(folder)
    return folder


def write(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path)
    return path


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_file_gives_the_networks_that_it_was_made_of(tmp_path: Path, words: Path, kind: str) -> None:
    made = parts(kind)
    file = write(tmp_path / "x.safetensors", tensors_of(made, kind))
    read = read_single_file(file, dtype=torch.float32, tokenizer=words)
    assert read.family == made.family
    for ours, theirs in [(read.network, made.network), (read.vae, made.vae)]:
        state = theirs.state_dict()
        assert ours.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())
    for ours, theirs in zip(read.texts, made.texts, strict=True):
        ids = torch.tensor([theirs.tokenizer("a red cat", padding="max_length").input_ids])
        assert ours.tokenizer("a red cat", padding="max_length").input_ids == ids[0].tolist()
        outputs = [module.eval()(ids, output_hidden_states=True) for module in (ours.module, theirs.module)]
        torch.testing.assert_close(outputs[0][0], outputs[1][0])
        torch.testing.assert_close(outputs[0].hidden_states[-2], outputs[1].hidden_states[-2])
    made.save(tmp_path / "folder")
    fields = {"caption": "a red cat", "negative": "dog", "method": "attention", "seed": 1}
    scene = Scene(width=64, height=64, steps=2, **fields)
    ours, theirs = (
        generate(scene, model, output_type="latent").latents
        for model in (load(file, tokenizer=words), load(tmp_path / "folder"))
    )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_reco_is_recognised_by_its_shapes(tmp_path: Path, words: Path) -> None:
    """Not by the file's name."""
    file = write(tmp_path / "coco_1232.safetensors", tensors_of(parts("reco"), "reco"))
    model = load(file, tokenizer=words)
    assert (model.native.method, model.native.guidance, model.text.length) == ("reco", 4.0, 616)
    vocabulary = model.text.tokenizer.get_vocab()
    assert vocabulary["<bin999>"] - vocabulary["<bin000>"] == 999
    assert model.text.module.config.eos_token_id == model.text.tokenizer.eos_token_id


def test_names_are_the_published_ones() -> None:
    shapes = {
        "sd1": {
            "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [32, 64],
            "model.diffusion_model.input_blocks.3.0.op.weight": [32, 32, 3, 3],
            "model.diffusion_model.output_blocks.5.2.conv.bias": [64],
            "model.diffusion_model.output_blocks.2.1.conv.weight": [64, 64, 3, 3],
            "model.diffusion_model.middle_block.1.proj_in.weight": [64, 64, 1, 1],
            "first_stage_model.decoder.up.3.block.0.norm1.weight": [64],
            "first_stage_model.encoder.mid.attn_1.q.weight": [64, 64, 1, 1],
            "cond_stage_model.transformer.text_model.embeddings.position_ids": [1, 1000],
        },
        "sd2": {"cond_stage_model.model.transformer.resblocks.3.attn.in_proj_weight": [192, 64]},
        "xl": {
            "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": [384, 128],
            "conditioner.embedders.1.model.text_projection": [128, 80],
            "model.diffusion_model.label_emb.0.0.weight": [128, 176],
        },
    }
    for kind, wanted in shapes.items():
        tensors = tensors_of(parts(kind), kind)
        assert {name: list(tensors[name].shape) for name in wanted} == wanted


@pytest.mark.parametrize(("deviation", "expected"), [(0.01, "epsilon"), (0.3, "v_prediction")])
def test_prediction_of_sd2_is_estimated_from_a_bias(
    tmp_path: Path, words: Path, deviation: float, expected: str
) -> None:
    tensors = tensors_of(parts("sd2"), "sd2")
    tensors[V_BIAS] = torch.linspace(-1, 1, len(tensors[V_BIAS])) * deviation * 1.7
    file = write(tmp_path / "x.safetensors", tensors)
    assert load(file, tokenizer=words).schedule.prediction == expected
    assert load(file, tokenizer=words, prediction="epsilon").schedule.prediction == "epsilon"


def test_xl_can_declare_v_prediction(tmp_path: Path, words: Path) -> None:
    tensors = tensors_of(parts("xl"), "xl") | {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    model = load(write(tmp_path / "x.safetensors", tensors), tokenizer=words)
    assert model.schedule.prediction == "v_prediction"
    assert model.schedule.alphas[-1] == pytest.approx(0, abs=1e-6)


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


BIAS = "model.diffusion_model.out.2.bias"
WRONG: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "lacks a tensor": (without(BIAS), 'lacks the tensor "conv_out.bias"'),
    "other shape": (lambda t: t | {BIAS: torch.zeros(7)}, 'has "conv_out.bias" .* of shape \\[7\\], not \\[4\\]'),
    "unknown under unet": (lambda t: t | {"model.diffusion_model.extra.weight": torch.zeros(3)}, "1 tensors under"),
    "of another kind": (lambda t: t | {"control_model.weight": torch.zeros(3)}, "holds a ControlNet within the check"),
    "only a vae": (lambda t: {k: v for k, v in t.items() if k.startswith("first_stage")}, "it lacks model.diffusion"),
    "a lora": (
        lambda t: {"lora_unet_x.lora_up.weight": torch.zeros(3)},
        "load a LoRA, an embedding or an adapter together",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_files_are_refused_in_one_sentence(tmp_path: Path, words: Path, fault: str) -> None:
    change, message = WRONG[fault]
    file = write(tmp_path / "x.safetensors", change(tensors_of(parts("sd1"), "sd1")))
    with pytest.raises(CheckpointError, match=message) as caught:
        load(file, tokenizer=words)
    assert "\n" not in str(caught.value)


def header(changes: dict[str, Any]) -> bytes:
    text = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


DAMAGED = {
    "empty": b"",
    "cut": header({})[:20],
    "long header": struct.pack("<Q", 2**60) + b"{}",
    "offsets beyond the file": header({"data_offsets": [0, 800], "shape": [200]}),
    "lying shape": header({"shape": [99]}),
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "pickle": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(DAMAGED[kind])
    with pytest.raises(CheckpointError) as caught:
        load(file)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "."))


def test_missing_file_and_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no file"):
        load(tmp_path / "none.safetensors")
    file = write(tmp_path / "x.safetensors", tensors_of(parts("sd1"), "sd1"))
    with pytest.raises(CheckpointError, match="in the local cache of the hub was not found"):
        load(file)
    with pytest.raises(CheckpointError, match=r"a CLIP tokenizer in .* was not found; give the folder of one"):
        load(file, tokenizer=tmp_path)


def test_half_precision_is_read_as_requested(tmp_path: Path, words: Path) -> None:
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in tensors_of(parts("sd1"), "sd1").items()}
    file = write(tmp_path / "x.safetensors", tensors)
    model = load(file, tokenizer=words)
    assert {p.dtype for p in model.net.unet.parameters()} == {torch.float32}
    assert load_file(file)[BIAS].dtype == torch.float16
