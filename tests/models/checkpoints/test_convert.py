"""Conversion: pickles of every kind once into safetensors, the original layouts into folders."""

import pickle  # noqa: TID251 what is refused
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder
from ldm import ldm_clip, ldm_unet, ldm_vae
from safetensors.torch import load_file
from tiny import tiny_tokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig

from cloisonne.cli.main import main
from cloisonne.errors import CheckpointError, OutputError
from cloisonne.models.checkpoints.convert import convert
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate
from cloisonne.scene.scene import Scene


def networks(inputs: int = 4) -> dict[str, Tensor]:
    """UNet and autoencoder of Stable Diffusion 1.x's structure, by LDM names."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.manual_seed(0)
    down, up = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
    unet = UNet2DConditionModel(
        in_channels=inputs,
        block_out_channels=(32, 32, 64, 64),
        down_block_types=(down, down, down, "DownBlock2D"),
        up_block_types=("UpBlock2D", up, up, up),
        cross_attention_dim=64,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    return ldm_unet(unet) | ldm_vae(vae)


def checkpoint() -> tuple[dict[str, Tensor], Any]:
    tokenizer = tiny_tokenizer(0)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=1,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    return networks() | ldm_clip(text), tokenizer


@pytest.fixture
def words(tmp_path: Path) -> Path:
    tiny_tokenizer(0).save_pretrained(tmp_path / "words")
    return tmp_path / "words"


def test_pickled_checkpoint_becomes_a_folder(tmp_path: Path, words: Path) -> None:
    tensors, _ = checkpoint()
    torch.save({"state_dict": tensors, "global_step": 5}, tmp_path / "model.ckpt")  # noqa: TID251 what is converted
    out = convert(tmp_path / "model.ckpt", tmp_path / "out", tokenizer=words)
    state = load(out).net.unet.state_dict()
    assert torch.equal(state["conv_in.weight"], tensors["model.diffusion_model.input_blocks.0.0.weight"])
    one = convert(tmp_path / "model.ckpt", tmp_path / "out.safetensors", dtype=torch.float16)
    found = load_file(one)
    assert found.keys() == tensors.keys()
    assert found["model.diffusion_model.out.2.bias"].dtype == torch.float16
    scene = Scene(caption="a cat", seed=0, steps=1, method="attention", width=64, height=64)
    models = (load(out, dtype=torch.float32), load(one, tokenizer=words, dtype=torch.float32))
    latents = [generate(scene, model, output_type="latent").latents for model in models]
    torch.testing.assert_close(latents[0], latents[1], atol=0.05, rtol=0.05)


def test_pickled_folder_becomes_safe(tiny_family: Path, tmp_path: Path) -> None:
    """The layout of the published ReCo folder, whose weights are .bin only."""
    pickled = shutil.copytree(tiny_family, tmp_path / "pickled")
    for file in pickled.rglob("*.safetensors"):
        name = "pytorch_model.bin" if file.stem == "model" else f"{file.stem}.bin"
        torch.save(load_file(file), file.with_name(name))  # noqa: TID251 what is converted
        file.unlink()
    with pytest.raises(CheckpointError, match="run cloisonne convert on the folder once"):
        load(pickled)
    out = convert(pickled, tmp_path / "out")
    assert not list(out.rglob("*.bin"))
    ours, theirs = load(out).net.unet.state_dict(), load(tiny_family).net.unet.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def paint_by_example() -> tuple[dict[str, Tensor], Any]:
    """The original layout: CLIP's vision tower, mapper, projection, learned vector."""
    vision = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=9,
        num_attention_heads=1,
        image_size=28,
        patch_size=14,
        projection_dim=64,
        hidden_act="quick_gelu",
    )
    encoder = PaintByExampleImageEncoder(vision).eval()
    found = networks(9)
    old = {
        "norm1": "ln_1",
        "norm3": "ln_2",
        "attn1.to_out.0": "attn.c_proj",
        "ff.net.0.proj": "mlp.c_fc",
        "ff.net.2": "mlp.c_proj",
    }
    state = encoder.state_dict()
    for name, tensor in state.items():
        layer, _, kind = name.rpartition(".")
        if name.startswith("model."):
            found[
                f"cond_stage_model.transformer.vision_model.{name.removeprefix('model.').removeprefix('vision_model.')}"
            ] = tensor
        elif name.startswith("mapper.blocks."):
            block, inner = layer.split(".")[2], ".".join(layer.split(".")[3:])
            place = f"cond_stage_model.mapper.resblocks.{block}"
            if inner in old:
                found[f"{place}.{old[inner]}.{kind}"] = tensor
            elif inner == "attn1.to_q":
                own = [state[f"mapper.blocks.{block}.attn1.to_{letter}.{kind}"] for letter in "qkv"]
                found[f"{place}.attn.c_qkv.{kind}"] = torch.cat(own)
        else:
            renamed = name.replace("final_layer_norm", "final_ln").replace("uncond_vector", "learnable_vector")
            found[f"cond_stage_model.{renamed}"] = tensor
    found["cond_stage_model.transformer.vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    return found, encoder


def test_original_paint_by_example_becomes_its_folder(tmp_path: Path) -> None:
    tensors, encoder = paint_by_example()
    assert tensors["model.diffusion_model.input_blocks.0.0.weight"].shape == (32, 9, 3, 3)
    assert tensors["cond_stage_model.mapper.resblocks.1.attn.c_qkv.weight"].shape == (192, 64)
    torch.save({"state_dict": tensors}, tmp_path / "model.ckpt")  # noqa: TID251 what is converted
    out = convert(tmp_path / "model.ckpt", tmp_path / "out")
    model = load(out)
    assert model.exemplar is not None
    pixels = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(model.exemplar.encoder(pixels), encoder(pixels))
    theirs = PaintByExampleImageEncoder.from_pretrained(out / "image_encoder").eval()
    torch.testing.assert_close(theirs(pixels), encoder(pixels))


def test_built_in_family_becomes_a_folder_of_its_own(tmp_path: Path) -> None:
    out = convert("builtin", tmp_path / "own")
    scene = Scene(caption="on a beach", seed=0, steps=1)
    ours, theirs = (generate(scene, load(source)).image.tobytes() for source in (out, "builtin"))
    assert ours == theirs


class Trap:
    """What a harmful pickle does: it calls something when it is read."""

    def __reduce__(self) -> Any:
        return print, ("read",)


def test_pickle_that_wants_to_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.ckpt").write_bytes(pickle.dumps({"state_dict": Trap()}))
    torch.save({"state_dict": {"a": Trap()}}, tmp_path / "y.ckpt")  # noqa: TID251 what is refused
    for name in ("x.ckpt", "y.ckpt"):
        with pytest.raises(
            CheckpointError, match=r"needs code to be read, which is never run|cannot be read"
        ) as caught:
            convert(tmp_path / name, tmp_path / "out")
        assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_is_refused_and_nothing_is_left(tmp_path: Path, tiny_sd: Path) -> None:
    (tmp_path / "there").mkdir()
    torch.save([1, 2], tmp_path / "list.pt")  # noqa: TID251 what is refused
    cases = [
        ((tmp_path / "none.ckpt", tmp_path / "out"), CheckpointError, "There is no folder or file"),
        ((tiny_sd, tmp_path / "there"), OutputError, "exists already"),
        ((tmp_path / "list.pt", tmp_path / "out.safetensors"), CheckpointError, "no tensors by name"),
        ((tmp_path / "there", tmp_path / "out"), CheckpointError, "has no model_index.json"),
        ((tiny_sd, tmp_path / "out.safetensors"), CheckpointError, "is no pickle"),
    ]
    for arguments, kind, message in cases:
        with pytest.raises(kind, match=message):
            convert(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["list.pt", "there"]


def test_command_prints_where_the_output_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "x.bin")  # noqa: TID251 what is converted
    monkeypatch.setattr(sys, "argv", ["cloisonne", "convert", str(tmp_path / "x.bin"), str(tmp_path / "x.safetensors")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code in (0, None)
    assert capsys.readouterr().out.strip() == str(tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors")["a"].tolist() == [1, 1]
