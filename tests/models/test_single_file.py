"""Checkpoints in one file, in exactly the published layouts, give the networks of the folder they came from."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from ldm import ldm_clip, ldm_open_clip, ldm_unet, ldm_vae
from safetensors.torch import load_file, save_file
from tiny import tiny_tokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from cloisonne.app.generate import generate
from cloisonne.errors import CheckpointError
from cloisonne.models.load import load
from cloisonne.models.parts import Parts, TextPart, family_of
from cloisonne.models.single_file import SCHEDULER, V_BIAS, read_single_file
from cloisonne.scene.scene import Scene

DOWN, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
SD1 = {
    "block_out_channels": (32, 64, 64, 64),
    "down_block_types": (DOWN, DOWN, DOWN, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", UP, UP, UP),
    "cross_attention_dim": 64,
    "attention_head_dim": 8,
    "sample_size": 64,
}
SD2 = SD1 | {
    "block_out_channels": (64, 64, 128, 128),
    "use_linear_projection": True,
    "attention_head_dim": (1, 1, 2, 2),
    "sample_size": 96,
}
XL = {
    "block_out_channels": (32, 64, 128),
    "down_block_types": ("DownBlock2D", DOWN, DOWN),
    "up_block_types": (UP, UP, "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "cross_attention_dim": 64 + 128,
    "attention_head_dim": (1, 1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 16,
    "projection_class_embeddings_input_dim": 6 * 16 + 80,
    "sample_size": 128,
}


def text(
    kind: Any = CLIPTextModel, *, act: str, width: int = 64, length: int = 77, bins: int = 0, **more: Any
) -> TextPart:
    tokenizer = tiny_tokenizer(bins)
    tokenizer.model_max_length = length
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=width // 64,
        max_position_embeddings=length,
        hidden_act=act,
        pad_token_id=tokenizer.pad_token_id,
        **ids,
        **more,
    )
    return TextPart(kind(config).eval(), tokenizer)


def parts(line: str) -> Parts:
    """The networks that a file is made of."""
    torch.manual_seed(0)
    family = line.split()[0]
    config: dict[str, Any] = {"sd1": SD1, "reco": SD1, "sd2": SD2, "xl": XL}[family]
    inputs = 9 if "inpaint" in line else 4
    unet = UNet2DConditionModel(**config, in_channels=inputs).eval()
    if family == "sd2":
        torch.nn.init.uniform_(unet.up_blocks[3].attentions[2].transformer_blocks[0].norm1.bias, -1, 1)
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.13025 if family == "xl" else 0.18215,
    ).eval()
    texts = {
        "sd1": lambda: (text(act="quick_gelu"),),
        "reco": lambda: (text(act="quick_gelu", length=616, bins=1000),),
        "sd2": lambda: (text(act="gelu"),),
        "xl": lambda: (
            text(act="quick_gelu"),
            text(CLIPTextModelWithProjection, act="gelu", width=128, projection_dim=80),
        ),
    }[family]()
    predicts = "v_prediction" if family == "sd2" else "epsilon"
    if len(texts) > 1 or family == "sd2":
        texts[-1].tokenizer.pad_token = "!"
    return Parts(
        family=family_of(unet.config),
        unet=unet,
        vae=vae,
        texts=texts,
        scheduler=SCHEDULER | {"prediction_type": predicts},
        zeros_for_empty=family == "xl",
    )


def tensors_of(made: Parts, line: str) -> dict[str, Tensor]:
    found = ldm_unet(made.unet) | ldm_vae(made.vae)
    module = made.texts[0].module
    if line.startswith("xl"):
        found |= ldm_clip(module, "conditioner.embedders.0.transformer.")
        found |= ldm_open_clip(made.texts[1].module, "conditioner.embedders.1.model.")
    elif line.startswith("sd2"):
        found |= ldm_open_clip(module, "cond_stage_model.model.", unused=1)
    else:
        found |= ldm_clip(module)
    found |= {"betas": torch.rand(1000), "alphas_cumprod": torch.rand(1000), "model_ema.decay": torch.tensor(0.9)}
    return {name: tensor.contiguous() for name, tensor in found.items()}


LINES = ["sd1", "sd1 inpaint", "reco", "sd2", "xl", "xl inpaint"]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    tiny_tokenizer(0).save_pretrained(folder)
    return folder


def write(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path)
    return path


@torch.no_grad()
@pytest.mark.parametrize("line", LINES)
def test_file_gives_the_networks_that_it_was_made_of(tmp_path: Path, words: Path, line: str) -> None:
    made = parts(line)
    file = write(tmp_path / "x.safetensors", tensors_of(made, line))
    read = read_single_file(file, dtype=torch.float32, tokenizer=words)
    assert read.family == made.family
    for ours, theirs in [(read.unet, made.unet), (read.vae, made.vae)]:
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
        generate(scene, load(source, tokenizer=words), output_type="latent").latents
        for source in (file, tmp_path / "folder")
    )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_reco_is_told_by_its_shapes(tmp_path: Path, words: Path) -> None:
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
    for line, wanted in shapes.items():
        tensors = tensors_of(parts(line), line)
        assert {name: list(tensors[name].shape) for name in wanted} == wanted


@pytest.mark.parametrize(("deviation", "expected"), [(0.01, "epsilon"), (0.3, "v_prediction")])
def test_prediction_of_sd2_is_told_by_a_bias(tmp_path: Path, words: Path, deviation: float, expected: str) -> None:
    tensors = tensors_of(parts("sd2"), "sd2")
    tensors[V_BIAS] = torch.linspace(-1, 1, len(tensors[V_BIAS])) * deviation * 1.7
    file = write(tmp_path / "x.safetensors", tensors)
    assert load(file, tokenizer=words).schedule.prediction == expected
    assert load(file, tokenizer=words, prediction="epsilon").schedule.prediction == "epsilon"


def test_xl_says_that_it_predicts_v(tmp_path: Path, words: Path) -> None:
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
    "unknown elsewhere": (lambda t: t | {"control_model.weight": torch.zeros(3)}, 'holds "control_model.weight"'),
    "only a vae": (lambda t: {k: v for k, v in t.items() if k.startswith("first_stage")}, "it lacks model.diffusion"),
    "a lora": (
        lambda t: {"lora_unet_x.lora_up.weight": torch.zeros(3)},
        "a LoRA, an embedding or an adapter is loaded",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_files_are_refused_in_one_sentence(tmp_path: Path, words: Path, fault: str) -> None:
    change, said = WRONG[fault]
    file = write(tmp_path / "x.safetensors", change(tensors_of(parts("sd1"), "sd1")))
    with pytest.raises(CheckpointError, match=said) as caught:
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


def test_missing_file_and_tokenizer_are_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no file"):
        load(tmp_path / "none.safetensors")
    file = write(tmp_path / "x.safetensors", tensors_of(parts("sd1"), "sd1"))
    with pytest.raises(CheckpointError, match="in the local cache of the hub was not found"):
        load(file)
    with pytest.raises(CheckpointError, match=r"a CLIP tokenizer in .* was not found; give the folder of one"):
        load(file, tokenizer=tmp_path)


def test_half_precision_is_read_as_asked(tmp_path: Path, words: Path) -> None:
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in tensors_of(parts("sd1"), "sd1").items()}
    file = write(tmp_path / "x.safetensors", tensors)
    model = load(file, tokenizer=words)
    assert {p.dtype for p in model.net.unet.parameters()} == {torch.float32}
    assert load_file(file)[BIAS].dtype == torch.float16
