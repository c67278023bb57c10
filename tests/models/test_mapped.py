"""Mapped networks are those of ``from_pretrained``: tensors, configuration, and nothing random."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from diffusers.utils import logging as diffusers_logging
from mmdit_families import WRITERS
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, Qwen3ForCausalLM, Qwen3Model, T5EncoderModel

from cloisonne.models.checkpoints.files import pretrained, weight_files
from cloisonne.models.mapped import MAPPED, mapped
from cloisonne.models.mmdit.zimage_network import JointZImage

KINDS: dict[str, dict[str, Any]] = {
    "xl": {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    },
    "flux": {"transformer": FluxTransformer2DModel, "text_encoder_2": T5EncoderModel},
    "flux2": {"transformer": Flux2Transformer2DModel, "vae": AutoencoderKLFlux2, "text_encoder": Qwen3ForCausalLM},
    "sd3": {"transformer": SD3Transformer2DModel},
    "zimage": {"transformer": JointZImage, "text_encoder": Qwen3Model},
}
"""Networks of the members, by family."""
CASES = [(family, member) for family, members in KINDS.items() for member in members]
IGNORED = {"_name_or_path", "dtype", "torch_dtype", "transformers_version", "_commit_hash"}


def config_of(module: Any) -> dict[str, Any]:
    config = module.config if isinstance(module.config, dict) else module.config.to_dict()
    return {key: value for key, value in dict(config).items() if key not in IGNORED}


@pytest.fixture(scope="module")
def folders(tiny_xl: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    written = {family: write(tmp_path_factory.mktemp(family)) for family, write in WRITERS.items()}
    return {"xl": tiny_xl, **written}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "member"), CASES)
def test_a_mapped_network_is_the_librarys(
    folders: dict[str, Path], family: str, member: str, dtype: torch.dtype
) -> None:
    kind, stem = KINDS[family][member], "model" if member.startswith("text") else "diffusion_pytorch_model"
    assert kind.__name__ in MAPPED
    folder = folders[family] / member
    torch.manual_seed(3)
    expected: Any = kind.from_pretrained(folder, **{"torch_dtype" if stem.startswith("diff") else "dtype": dtype})
    torch.manual_seed(4)
    before = torch.get_rng_state()
    found, missing, unexpected = mapped(kind, folder, weight_files(folder, stem, None), dtype)
    assert torch.equal(torch.get_rng_state(), before)
    assert (missing, unexpected) == ([], [])
    theirs, own = dict(expected.named_parameters()), dict(found.named_parameters())
    theirs |= dict(expected.named_buffers())
    own |= dict(found.named_buffers())
    assert own.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert own[name].dtype == tensor.dtype, name
        assert torch.equal(own[name], tensor), name
    assert config_of(found) == config_of(expected)
    assert not found.training
    assert found.config._attn_implementation == "sdpa" if member.startswith("text") else True


def test_old_names_of_an_autoencoders_attention_are_read(tiny_sd: Path, tmp_path: Path) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(tiny_sd / "vae/diffusion_pytorch_model.safetensors")
    renamed = {}
    for name, tensor in tensors.items():
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.") if ".attentions." in name else name
        renamed[name] = tensor
    assert renamed.keys() != tensors.keys()
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").write_bytes((tiny_sd / "vae/config.json").read_bytes())
    save_file(renamed, tmp_path / "vae/diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    diffusers_logging.set_verbosity_error()
    found = pretrained(AutoencoderKL, tmp_path / "vae")
    for name, tensor in pretrained(AutoencoderKL, tiny_sd / "vae").state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


@pytest.mark.parametrize("held", ["shared.weight", "encoder.embed_tokens.weight", "both"])
def test_a_file_may_hold_one_of_two_tied_tensors(folders: dict[str, Path], tmp_path: Path, held: str) -> None:
    source = folders["flux"] / "text_encoder_2"
    tensors = load_file(source / "model.safetensors")
    table = tensors.pop("shared.weight") if "shared.weight" in tensors else tensors.pop("encoder.embed_tokens.weight")
    tensors.pop("encoder.embed_tokens.weight", None)
    names = ("shared.weight", "encoder.embed_tokens.weight") if held == "both" else (held,)
    tensors |= {name: table.clone() for name in names} | {"decoder.final_layer_norm.weight": torch.ones(4)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((source / "config.json").read_bytes())
    found, missing, unexpected = mapped(T5EncoderModel, tmp_path, [tmp_path / "model.safetensors"], None)
    assert (missing, unexpected) == ([], [])
    assert torch.equal(found.shared.weight, table)
    assert torch.equal(found.encoder.embed_tokens.weight, table)
    assert (found.shared.weight is found.encoder.embed_tokens.weight) == (held != "both")
