import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.builtin import digest, members
from cloisonne.models.load import load
from cloisonne.models.model import Native

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copied(tiny_family: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_family, tmp_path / "copied")


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def with_provenance(folder: Path) -> Path:
    """Members with the records that training writes."""
    parents = {"vae": [], "text_encoder": ["tokenizer"], "unet": ["vae", "text_encoder"]}
    for member, names in parents.items():
        record = {
            "minutes": 1.0,
            "sha256": digest(folder / member),
            "parents": {name: digest(folder / name) for name in names},
        }
        (folder / member / "provenance.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(("dtype", "slow"), [("bfloat16", False), ("float16", True), ("float32", False)])
def test_a_dtype_that_the_processor_multiplies_slowly_is_named(
    tiny_family: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, slow: bool
) -> None:
    rates = {torch.float32: 80.0, torch.bfloat16: 200.0, torch.float16: 1.6}
    monkeypatch.setattr("cloisonne.models.load.product_rate", lambda device, dtype: rates[dtype])
    warnings = [warning for warning in load(tiny_family, dtype=dtype).warnings if "multiplies" in warning]
    assert warnings == (
        ['This processor multiplies float16 50 times as slowly as float32; load the model with dtype="float32".']
        if slow
        else []
    )


def test_family_is_loaded_with_its_own_values(tiny_family: Path) -> None:
    model = load(tiny_family)
    assert model.native == Native(width=64, height=64, steps=3, guidance=4.0, sampler="ddim", method="reco")
    assert model.schedule.prediction == "v_prediction"
    assert (model.spec.vae_factor, model.spec.latent_channels, model.spec.token_width) == (8, 4, 16)
    assert (model.name, model.device.type, model.dtype) == (tiny_family.name, "cpu", torch.float32)
    assert model.clip is None
    assert not any(p.requires_grad for p in model.net.unet.parameters())


def test_other_checkpoints_take_common_values(tiny_sd: Path, copied: Path) -> None:
    assert load(tiny_sd).native == Native(
        width=64, height=64, steps=20, guidance=7.5, sampler="dpmpp-2m", method="bounded"
    )
    (copied / "family.json").unlink()
    assert (load(copied).native.method, load(copied).native.guidance) == ("reco", 4.0)


def test_dtype_is_that_of_all_networks(tiny_family: Path) -> None:
    model = load(tiny_family, dtype=torch.bfloat16)
    assert {m.dtype for m in (model.net.unet, model.vae.module, model.text.module)} == {torch.bfloat16}
    assert model.text.encode_ids(model.text.padded_ids("a cat")).tokens.dtype == torch.float32


def test_half_precision_files_are_read_in_full(copied: Path) -> None:
    tensors = {name: tensor.half() for name, tensor in load_file(copied / UNET).items()}
    save_file(tensors, copied / UNET, metadata={"format": "pt"})
    state = load(copied).net.unet.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert torch.equal(state["conv_in.weight"], tensors["conv_in.weight"].float())


def test_shards_are_read(copied: Path, tiny_family: Path) -> None:
    load(copied).net.unet.save_pretrained(copied / "unet", max_shard_size="40KB")
    (copied / UNET).unlink()
    assert len(list((copied / "unet").glob("*.safetensors"))) > 1
    whole, parts = load(tiny_family).net.unet.state_dict(), load(copied).net.unet.state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_loading_is_silent(tiny_family: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(tiny_family)
    assert capfd.readouterr() == ("", "")


def test_hash_covers_what_determines_the_image(tiny_family: Path, copied: Path) -> None:
    hash_ = load(tiny_family).hash
    (copied / "README.md").write_text("words")
    assert load(copied).hash == hash_
    edit_json(copied / "scheduler/scheduler_config.json", steps_offset=1)
    assert load(copied).hash != hash_


def test_clip_of_the_scheduler_is_honoured(copied: Path) -> None:
    edit_json(copied / "scheduler/scheduler_config.json", clip_sample=True, clip_sample_range=2.5)
    assert load(copied).clip == 2.5


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "model_index.json").unlink(), "has no model_index.json"),
    "index no json": (lambda f: (f / "model_index.json").write_text("{"), "cannot be read as JSON"),
    "index a list": (lambda f: (f / "model_index.json").write_text("[]"), "is not a JSON object"),
    "sd3": (lambda f: edit_json(f / "model_index.json", transformer=["diffusers", "SD3"]), "which is not supported"),
    "half xl": (lambda f: edit_json(f / "model_index.json", text_encoder_2=["a", "b"]), "has b as its text_encoder_2"),
    "other unet": (lambda f: edit_json(f / "model_index.json", unet=["diffusers", "FluxUNet"]), "has FluxUNet as its"),
    "no vae listed": (lambda f: edit_json(f / "model_index.json", vae=None), "has None as its vae"),
    "no weights": (lambda f: (f / UNET).unlink(), "has no diffusion_pytorch_model.safetensors; download"),
    "pickles": (lambda f: (f / UNET).rename(f / "unet/x.bin"), "pickles are not loaded"),
    "no folder": (lambda f: shutil.rmtree(f / "vae"), "has no diffusion_pytorch_model.safetensors"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer"),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), "has no scheduler_config.json"),
    "no config": (lambda f: (f / "unet/config.json").unlink(), "unet"),
    "cut weights": (lambda f: (f / UNET).write_bytes((f / UNET).read_bytes()[:999]), "unet"),
    "weights are text": (lambda f: (f / UNET).write_text("version https://git-lfs.github.com/spec/v1"), "unet"),
    "lacks a tensor": (lambda f: drop_tensor(f / UNET), "lacks 1 tensors, such as conv_in.bias"),
    "other shape": (lambda f: edit_json(f / "unet/config.json", block_out_channels=[8, 32]), "unet"),
    "shard outside": (lambda f: shards(f, "../vae/diffusion_pytorch_model.safetensors"), "no safetensors file of its"),
    "shard absolute": (lambda f: shards(f, "/etc/passwd.safetensors"), "no safetensors file of its folder"),
    "shard missing": (lambda f: shards(f, "part.safetensors"), "lacks part.safetensors"),
    "no weight map": (lambda f: shards(f, None), "has no weight_map"),
    "family": (lambda f: (f / "family.json").write_text('{"native": {"width": 64}}'), "lacks a table"),
    "prediction": (
        lambda f: edit_json(f / "scheduler/scheduler_config.json", prediction_type="flow"),
        "prediction_type",
    ),
}


def drop_tensor(file: Path) -> None:
    tensors = load_file(file)
    del tensors["conv_in.bias"]
    save_file(tensors, file, metadata={"format": "pt"})


def shards(folder: Path, name: str | None) -> None:
    (folder / UNET).unlink()
    index = {} if name is None else {"weight_map": {"conv_in.weight": name}}
    (folder / f"{UNET}.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_refused_in_one_sentence(copied: Path, damage: str) -> None:
    spoil, expected = DAMAGES[damage]
    spoil(copied)
    with pytest.raises(CheckpointError) as caught:
        load(copied)
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("unet", {"in_channels": 8}, "8 input channels for 4 latent ones"),
        ("unet", {"in_channels": 8, "out_channels": 8}, "8 latent channels and the vae has 4"),
        ("unet", {"cross_attention_dim": 32}, "width 32 and the text encoder gives 16"),
    ],
)
def test_parts_of_different_checkpoints_are_refused(
    copied: Path, part: str, changes: dict[str, int], message: str
) -> None:
    from diffusers import UNet2DConditionModel

    config = UNet2DConditionModel.load_config(copied / part)
    UNet2DConditionModel.from_config(config, **changes).save_pretrained(copied / part)
    with pytest.raises(CheckpointError, match=message):
        load(copied)


def test_missing_family_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloisonne.models.load.BUILTIN", tmp_path)
    with pytest.raises(CheckpointError, match=r"The built-in family is missing from .* install cloisonne again"):
        load()


def test_no_such_folder() -> None:
    with pytest.raises(
        CheckpointError, match=r'^There is no folder or file "nowhere"; give "builtin", a diffusers folder'
    ):
        load("nowhere")


def test_no_such_device(tiny_family: Path) -> None:
    for device in ("cuda:77", "gpu"):
        with pytest.raises(CapabilityError, match=f'^The device "{device}" cannot be used .* choose "cpu"'):
            load(tiny_family, device=device)


def test_members_are_those_with_provenance(copied: Path, tiny_sd: Path) -> None:
    found = members(with_provenance(copied))
    assert [member.name for member in found] == ["text_encoder", "unet", "vae"]
    assert [member.sha256 for member in found] == [digest(copied / member.name) for member in found]
    assert found[1].bytes == (copied / UNET).stat().st_size
    assert found[1].provenance["minutes"] == 1.0
    assert members(tiny_sd) == []
    load(copied)


def test_changed_member_is_refused(copied: Path) -> None:
    edit_json(with_provenance(copied) / "vae/config.json", scaling_factor=0.75)
    with pytest.raises(CheckpointError, match='vae" is not the one that "unet" was made with'):
        load(copied)


def test_changed_parent_is_refused_though_its_own_record_agrees(copied: Path) -> None:
    edit_json(with_provenance(copied) / "vae/config.json", scaling_factor=0.75)
    edit_json(copied / "vae/provenance.json", sha256=digest(copied / "vae"))
    with pytest.raises(CheckpointError, match='vae" is not the one that "unet" was made with'):
        load(copied)


def test_damaged_provenance_is_refused(copied: Path) -> None:
    (with_provenance(copied) / "unet/provenance.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r'provenance\.json" is damaged'):
        load(copied)


def test_published_layout_of_networks_is_read(tiny_sd: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Stable Diffusion 1.x has older names for the layers of its text encoder and of its vae's attention."""
    folder = shutil.copytree(tiny_sd, tmp_path / "published")
    text = load_file(folder / "text_encoder/model.safetensors")
    text = {f"text_model.{name}": tensor for name, tensor in text.items()}
    text["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(text, folder / "text_encoder/model.safetensors", metadata={"format": "pt"})
    vae = load_file(folder / "vae/diffusion_pytorch_model.safetensors")
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        vae = {name.replace(f".attentions.0.{new}.", f".attentions.0.{old}."): t for name, t in vae.items()}
    save_file(vae, folder / "vae/diffusion_pytorch_model.safetensors", metadata={"format": "pt"})

    published, model = load(folder), load(tiny_sd)
    for ours, theirs in ((model.text.module, published.text.module), (model.vae.module, published.vae.module)):
        state = theirs.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_offloaded_networks_generate_the_same(tiny_xl: Path) -> None:
    from cloisonne.pipelines.generate import generate
    from cloisonne.scene.scene import Scene

    scene = Scene(caption="a red cat", seed=0, steps=2)
    model = load(tiny_xl, offload=True)
    hooked = (*model.text.modules, model.net.unet, model.vae.module)
    assert all(hasattr(module, "_hf_hook") for module in hooked)
    ours, plain = generate(scene, model), generate(scene, load(tiny_xl))
    assert torch.equal(ours.latents, plain.latents)
    assert ours.image.tobytes() == plain.image.tobytes()


def test_autoencoder_can_work_in_tiles_and_slices(tiny_sd: Path) -> None:
    tiled = load(tiny_sd, vae_tiling=True, vae_slicing=True)
    assert tiled.vae.module.use_tiling
    assert tiled.vae.module.use_slicing
    assert tiled.hash != load(tiny_sd).hash
    assert load(tiny_sd, vae_slicing=True).hash == load(tiny_sd).hash


def test_autoencoder_that_overflows_half_precision_stays_in_full(tiny_sd: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sd, tmp_path / "upcast")
    edit_json(folder / "vae/config.json", force_upcast=True)
    model = load(folder, dtype=torch.float16)
    assert (model.vae.module.dtype, model.net.unet.dtype) == (torch.float32, torch.float16)
    edit_json(folder / "vae/config.json", force_upcast=False)
    assert load(folder, dtype=torch.float16).vae.module.dtype == torch.float16


def test_xl_reads_text_as_diffusers_does(tiny_xl: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_xl, low_cpu_mem_usage=False)
    tokens, _, pooled, _ = pipeline.encode_prompt("a red cat", do_classifier_free_guidance=False)
    text = load(tiny_xl).text
    encoded = text.encode_ids(text.padded_ids("a red cat"))
    assert encoded.pooled is not None
    torch.testing.assert_close(encoded.tokens, tokens[0])
    torch.testing.assert_close(encoded.pooled, pooled[0])
    assert (text.width, text.pooled_width) == (40, 20)


def test_tokenizers_of_different_vocabularies_are_refused(tiny_xl: Path, tmp_path: Path) -> None:
    from tiny import tiny_tokenizer

    folder = shutil.copytree(tiny_xl, tmp_path / "mixed")
    tiny_tokenizer(3).save_pretrained(folder / "tokenizer_2")
    with pytest.raises(CheckpointError, match="two tokenizers have different vocabularies"):
        load(folder)


def test_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r'is a pickle, which can run code .* "cloisonne convert .*model\.ckpt FOLDER"'
    ):
        load(tmp_path / "model.ckpt")
