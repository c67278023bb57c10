"""Files of a transformer, its text encoders and its autoencoder are the model of the folder, or say why not."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flux2 import tiny_qwen_tokenizer
from original_names import original
from safetensors.torch import load_file
from torch import Tensor
from transformer_files import NETWORK, text_tensors, vae_tensors, write, write_folder_of

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.quantized.layers import QuantizedLinear
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

KINDS = ("flux", "sd3 3.5 medium", "flux2", "zimage turbo")
PET = Region(name="pet", box=(0, 0, 0.5, 1), phrase="a dog")
SCENE = Scene(caption="a red cat", seed=0, steps=2, width=64, height=64, regions=[PET])
needs_gguf = pytest.mark.skipif(find_spec("gguf") is None, reason='the extra "gguf" is not installed')


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_folder_of(tmp_path_factory.mktemp("made"), kind) for kind in KINDS}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {kind: load(folder) for kind, folder in folders.items()}


def written(model: Model, to: Path, *, prefix: str = "", vae: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """The files of a model as most people have them, as options of ``load``; the transformer is the source."""
    tensors = {f"{prefix}{name}": tensor for name, tensor in original(model).items()}
    encoders = [write(to / f"{name}.safetensors", own) for name, own in text_tensors(model).items()]
    return {
        "source": write(to / f"{model.family}{'-turbo' * (model.family == 'zimage')}.safetensors", tensors),
        "text_encoders": encoders,
        "vae": write(to / "vae.safetensors", vae_tensors(model) if vae is None else vae),
    }


def modules_of(model: Model) -> list[Any]:
    return [model.net.modules[0], model.vae.module, *model.text.modules]


def numbers_of(module: Any) -> dict[str, Tensor]:
    found = {n: tensor for n, tensor in module.state_dict().items() if not n.endswith((".data", ".scale"))}
    quantised = {n: own for n, own in module.named_modules() if isinstance(own, QuantizedLinear)}
    return found | {f"{name}.weight": own.weight for name, own in quantised.items()}


def assert_same(found: Model, model: Model) -> None:
    assert (found.family, found.native, found.spec) == (model.family, model.native, model.spec)
    assert found.schedule == model.schedule
    for ours, theirs in zip(modules_of(found), modules_of(model), strict=True):
        numbers, expected = numbers_of(ours), theirs.state_dict()
        assert numbers.keys() == expected.keys()
        assert [name for name, tensor in numbers.items() if not torch.equal(tensor, expected[name])] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of_diffusers", [False, True], ids=["original autoencoder", "diffusers' autoencoder"])
def test_files_are_the_folder(models: Any, folders: Any, tmp_path: Path, kind: str, of_diffusers: bool) -> None:
    model = models[kind]
    vae = model.vae.module.state_dict() if of_diffusers else None
    given = written(model, tmp_path, prefix=NETWORK if of_diffusers else "", vae=vae)
    if kind == "sd3 3.5 medium":
        given["text_encoders"].reverse()  # their contents say which they are
    found = load(**given, tokenizer=folders[kind])
    assert found.warnings == ()
    assert {*found.files} == {given["source"], *given["text_encoders"], given["vae"]}
    assert_same(found, model)
    if not of_diffusers:
        torch.testing.assert_close(generate(SCENE, found).latents, generate(SCENE, model).latents, atol=1e-5, rtol=0)
        assert load(found.model_spec).hash == found.hash


def test_the_tokenizer_may_be_its_own_folder(models: Any, folders: Any, tmp_path: Path) -> None:
    found = load(**written(models["flux2"], tmp_path), tokenizer=folders["flux2"] / "tokenizer")
    assert_same(found, models["flux2"])


@pytest.mark.parametrize(("kind", "name"), [("flux2", "flux-2-klein-base-4b"), ("zimage turbo", "z_image_bf16")])
def test_the_name_decides_what_tensors_do_not_tell(
    models: Any, folders: Any, tmp_path: Path, kind: str, name: str
) -> None:
    given = written(models[kind], tmp_path)
    renamed = given["source"].rename(tmp_path / f"{name}.safetensors")
    found = load(**given | {"source": renamed}, tokenizer=folders[kind])
    assert (found.native.steps, found.native.guidance > 1) == (50, True)
    assert any(f'"{name}"' in note for note in found.notes)


def test_kontext_is_known_by_its_name(models: Any, folders: Any, tmp_path: Path) -> None:
    given = written(models["flux"], tmp_path)
    renamed = given["source"].rename(tmp_path / "flux1-Kontext-dev.safetensors")
    assert load(**given | {"source": renamed}, tokenizer=folders["flux"]).family == "kontext"


@pytest.mark.parametrize("kind", ["flux", "flux2"])
def test_float8_text_encoders_stay_so(models: Any, folders: Any, tmp_path: Path, kind: str) -> None:
    given = written(models[kind], tmp_path)
    file = given["text_encoders"][-1]
    tensors = {
        name: tensor.to(torch.float8_e4m3fn) if tensor.ndim == 2 and "embed" not in name else tensor
        for name, tensor in load_file(file).items()
    }
    write(file, tensors)
    module: Any = load(**given, tokenizer=folders[kind]).text.modules[-1]
    layers = {name: own for name, own in module.named_modules() if isinstance(own, QuantizedLinear)}
    assert len(layers) >= 12
    exact = dict(models[kind].text.modules[-1].named_modules())
    for name, layer in layers.items():
        assert torch.equal(layer.weight, exact[name].weight.to(torch.float8_e4m3fn).float())


LLAMA = {
    "qwen3_4b": {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers": "blk",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    },
    "t5xxl": {
        "encoder.final_layer_norm": "enc.output_norm",
        "shared": "token_embd",
        "encoder.block": "enc.blk",
        "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
        "layer.0.SelfAttention.": "attn_",
        "layer.0.layer_norm": "attn_norm",
        "layer.1.layer_norm": "ffn_norm",
        "layer.1.DenseReluDense.wi_0": "ffn_gate",
        "layer.1.DenseReluDense.wi_1": "ffn_up",
        "layer.1.DenseReluDense.wo": "ffn_down",
    },
}
"""Names of transformers as llama.cpp's conversion writes them."""


def gguf(file: Path, tensors: dict[str, Tensor], kind: str = "F32") -> Path:
    from gguf import GGMLQuantizationType, GGUFWriter, quantize

    writer = GGUFWriter(file, arch="x")
    for name, tensor in tensors.items():
        fits = tensor.ndim == 2 and tensor.shape[1] % 32 == 0
        form = GGMLQuantizationType[kind if fits else "F32"]
        data = quantize(tensor.float().numpy(), form)
        writer.add_tensor(name, data, raw_shape=None if form.name == "F32" else data.shape, raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@needs_gguf
@pytest.mark.parametrize(("kind", "encoder"), [("flux", "t5xxl"), ("flux2", "qwen3_4b")])
def test_gguf_files_are_read(models: Any, folders: Any, tmp_path: Path, kind: str, encoder: str) -> None:
    """Of a transformer in blocks, and of a text encoder by the names of llama.cpp."""
    given = written(models[kind], tmp_path)
    renamed = {}
    for name, tensor in text_tensors(models[kind])[encoder].items():
        for old, new in LLAMA[encoder].items():
            name = name.replace(old, new)
        renamed[name] = tensor
    given["text_encoders"][-1] = gguf(tmp_path / "encoder.gguf", renamed)
    given["source"] = gguf(tmp_path / "network.gguf", original(models[kind]), "Q8_0")
    found = load(**given, tokenizer=folders[kind])
    for ours, theirs in zip(found.text.modules, models[kind].text.modules, strict=True):
        expected = theirs.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.state_dict().items())
    layer = found.net.modules[0].get_submodule("transformer_blocks.0.attn.to_q")
    assert isinstance(layer, QuantizedLinear)
    assert found.name == "network"
    assert np.isfinite(np.asarray(generate(SCENE, found).image)).all()


def of_diffusers(model: Model) -> dict[str, Tensor]:
    return dict(model.net.modules[0].state_dict())


REFUSALS: dict[str, tuple[Any, str]] = {
    "another text encoder": (
        lambda m, g, to: {
            "text_encoders": [*g["text_encoders"], write(to / "t5.safetensors", text_tensors(m["flux"])["t5xxl"])]
        },
        r"t5.safetensors\" holds a text encoder T5, and FLUX.2 klein takes Qwen3",
    ),
    "no text encoder": (lambda m, g, to: {"text_encoders": [g["vae"]]}, "holds no text encoder: its tensors"),
    "another language model": (
        lambda m, g, to: {
            "text_encoders": write(
                to / "gemma.safetensors", {"model.layers.0.self_attn.q_proj.weight": torch.zeros(2, 2)}
            )
        },
        "holds a language model other than Qwen3",
    ),
    "text encoder missing": (lambda m, g, to: {"text_encoders": []}, "has no text encoder Qwen3; give files of them"),
    "autoencoder missing": (lambda m, g, to: {"vae": None}, r"has no autoencoder; .*text_encoders=\[FILE"),
    "another autoencoder": (
        lambda m, g, to: {"vae": write(to / "ae.safetensors", vae_tensors(m["flux"]))},
        "is not that of FLUX.2",
    ),
    "no autoencoder": (lambda m, g, to: {"vae": g["text_encoders"][0]}, "holds no autoencoder: its tensors"),
    "Chroma": (
        lambda m, g, to: {
            "source": write(to / "chroma.safetensors", {"distilled_guidance_layer.norms.0.scale": torch.zeros(2)})
        },
        "is of Chroma, which is not supported",
    ),
    "names of diffusers": (
        lambda m, g, to: {"source": write(to / "diffusers.safetensors", of_diffusers(m["flux"]))},
        r"by the names of diffusers.*load\(FOLDER, transformer=FILE\)",
    ),
    "a damaged file": (
        lambda m, g, to: {
            "source": write(
                to / "cut.safetensors", {n: t for n, t in original(m["flux2"]).items() if n != "img_in.weight"}
            )
        },
        "lacks the tensor 'img_in.weight'",
    ),
    "FLUX.2 dev": (
        lambda m, g, to: {
            "source": write(
                to / "dev.safetensors",
                original(m["flux2"])
                | {
                    "guidance_in.in_layer.weight": torch.zeros(128, 256),
                    "guidance_in.out_layer.weight": torch.zeros(128, 128),
                },
            )
        },
        "FLUX.2 dev",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_supported_is_refused(models: Any, folders: Any, tmp_path: Path, case: str) -> None:
    change, expected = REFUSALS[case]
    given = written(models["flux2"], tmp_path)
    changed = given | change(models, given, tmp_path)
    with pytest.raises(CheckpointError, match=expected):
        load(**{name: value for name, value in changed.items() if value}, tokenizer=folders["flux2"])


@pytest.mark.parametrize("option", ["text_encoders", "vae"])
def test_other_sources_have_their_own(folders: Any, tmp_path: Path, option: str) -> None:
    file = write(tmp_path / "x.safetensors", {"x": torch.zeros(1)})
    for source in ("builtin", folders["flux2"], file):
        with pytest.raises(CapabilityError, match="belong to a single file with a diffusion transformer"):
            load(source, **{option: file})


def test_no_tokenizer_is_refused(models: Any, tmp_path: Path) -> None:
    given = written(models["flux2"], tmp_path)
    with pytest.raises(CheckpointError, match="holds no tokenizers, and none is given"):
        load(**given)
    tiny_qwen_tokenizer().save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="has none of the name tokenizer"):
        load(**given, tokenizer=tmp_path / "other")
