"""LoRAs and learned words through diffusers' loaders: fused is what diffusers gives unfused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lora_files import kohya_file, lora_weights, peft_file, pipeline_of
from safetensors.torch import save_file
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate
from cloisonne.scene.scene import Scene

SCENE = Scene(
    caption="a red cat", seed=0, steps=3, sampler="ddim", guidance=3.0, method="attention", width=64, height=64
)


def theirs(folder: Path, file: Path, scale: float, latents: Tensor) -> Tensor:
    pipeline = pipeline_of(folder)
    pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name="own")
    pipeline.set_adapters("own", scale)
    return pipeline(
        "a red cat",
        num_inference_steps=3,
        guidance_scale=3.0,
        height=64,
        width=64,
        latents=latents.clone(),
        output_type="latent",
    ).images


@pytest.mark.parametrize("form", ["peft", "kohya"])
@pytest.mark.parametrize("base", ["tiny_sd", "tiny_xl"])
def test_fused_is_what_diffusers_gives_unfused(
    base: str, form: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(base)
    made, file = lora_weights(folder), tmp_path / "x.safetensors"
    peft_file(file, made) if form == "peft" else kohya_file(file, made, alpha=1.0)
    latents = torch.randn(1, 4, 8, 8)
    model = load(folder, lora=(file, 0.7))
    ours = generate(SCENE, model, latents=latents, output_type="latent").latents
    torch.testing.assert_close(ours, theirs(folder, file, 0.7, latents), atol=1e-4, rtol=0)
    plain = load(folder)
    assert not torch.allclose(ours, generate(SCENE, plain, latents=latents, output_type="latent").latents, atol=1e-2)
    assert model.net.unet.state_dict().keys() == plain.net.unet.state_dict().keys()
    assert model.hash != plain.hash


def test_several_add_up_in_any_order(tiny_sd: Path, tmp_path: Path) -> None:
    files = [peft_file(tmp_path / f"{seed}.safetensors", lora_weights(tiny_sd, seed)) for seed in (1, 2)]
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    plain = load(tiny_sd).net.unet.state_dict()[name]
    both = [load(tiny_sd, lora=order).net.unet.state_dict()[name] for order in (files, files[::-1])]
    single = [load(tiny_sd, lora=file).net.unet.state_dict()[name] for file in files]
    torch.testing.assert_close(both[0], both[1])
    torch.testing.assert_close(both[0] - plain, single[0] + single[1] - 2 * plain, atol=1e-6, rtol=0)


def test_scale_0_changes_nothing(tiny_sd: Path, tmp_path: Path) -> None:
    file = peft_file(tmp_path / "x.safetensors", lora_weights(tiny_sd))
    ours, plain = load(tiny_sd, lora=(file, 0.0)).net.unet.state_dict(), load(tiny_sd).net.unet.state_dict()
    assert all(torch.equal(tensor, plain[name]) for name, tensor in ours.items())


@pytest.mark.parametrize("form", ["diffusers", "a1111"])
@pytest.mark.parametrize("vectors", [1, 3])
def test_learned_words_are_read_in_prompts(tiny_sd: Path, tmp_path: Path, form: str, vectors: int) -> None:
    file = tmp_path / "mine.safetensors"
    learned = torch.randn(vectors, 16)
    save_file({"emb_params" if form == "a1111" else "mine": learned}, file)
    text = load(tiny_sd, embeddings=file).text
    pipeline = pipeline_of(tiny_sd)
    pipeline.load_textual_inversion({"mine": learned}, "mine")
    prompt = pipeline.maybe_convert_prompt("a mine cat", pipeline.tokenizer)
    ids = pipeline.tokenizer(prompt, padding="max_length", max_length=77).input_ids
    assert text.padded_ids("a mine cat") == ids
    table = text.module.get_input_embeddings().weight
    torch.testing.assert_close(table[text.padded_ids("mine")[1 : 1 + vectors]], learned)


def test_learned_words_of_xl_have_two_parts(tiny_xl: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    save_file({"clip_l": torch.randn(2, 16), "clip_g": torch.randn(2, 24)}, file)
    text = load(tiny_xl, embeddings=[file]).text
    assert text.padded_ids("mine")[1:3] == [len(text.tokenizer) - 2, len(text.tokenizer) - 1]
    assert text.encode_ids(text.padded_ids("a mine")).tokens.shape == (77, 40)


def test_what_does_not_fit_is_refused_in_one_sentence(tiny_sd: Path, tiny_xl: Path, tmp_path: Path) -> None:
    xl = peft_file(tmp_path / "xl.safetensors", lora_weights(tiny_xl))
    other, wrong = tmp_path / "other.safetensors", tmp_path / "wrong.safetensors"
    save_file({"a.weight": torch.zeros(1)}, other)
    save_file({"unet.nowhere.lora_A.weight": torch.zeros(2, 3), "unet.nowhere.lora_B.weight": torch.zeros(3, 2)}, wrong)
    word = tmp_path / "word.safetensors"
    save_file({"emb_params": torch.zeros(1, 99)}, word)
    (tmp_path / "x.pt").write_bytes(b"")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"lora": xl}, "does not fit the model, which is of the family sd1"),
        ({"lora": other}, "is no LoRA"),
        ({"lora": wrong}, r"fits no layer|does not fit"),
        ({"lora": tmp_path / "none.safetensors"}, "There is no LoRA"),
        ({"lora": tmp_path / "x.pt"}, "convert it once"),
        ({"embeddings": word}, "does not fit the model"),
        ({"embeddings": tmp_path / "x.pt"}, "cannot be read"),
    ]
    for given, message in cases:
        with pytest.raises(CheckpointError, match=message) as caught:
            load(tiny_sd, **given)
        assert "\n" not in str(caught.value)
