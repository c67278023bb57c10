"""Mapped networks are those of ``from_pretrained``: tensors, configuration, and nothing random."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from cloisonne.models.checkpoints.files import pretrained, weight_files
from cloisonne.models.mapped import MAPPED, mapped

KINDS = {
    "unet": (UNet2DConditionModel, "diffusion_pytorch_model"),
    "vae": (AutoencoderKL, "diffusion_pytorch_model"),
    "text_encoder": (CLIPTextModel, "model"),
    "text_encoder_2": (CLIPTextModelWithProjection, "model"),
}
IGNORED = {"_name_or_path", "dtype", "torch_dtype", "transformers_version", "_commit_hash"}


def config_of(module: Any) -> dict[str, Any]:
    config = module.config if isinstance(module.config, dict) else module.config.to_dict()
    return {key: value for key, value in dict(config).items() if key not in IGNORED}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("member", KINDS)
def test_a_mapped_network_is_the_librarys(tiny_xl: Path, member: str, dtype: torch.dtype) -> None:
    kind, stem = KINDS[member]
    assert kind.__name__ in MAPPED
    folder = tiny_xl / member
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
