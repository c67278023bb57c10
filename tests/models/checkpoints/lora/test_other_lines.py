"""Files of other networks given as a LoRA or an adapter: the refusal names what they contain."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cloisonne.errors import CheckpointError
from cloisonne.models.load import load

LORAS = {
    "transformer.single_transformer_blocks.0.attn.to_q.lora_{}.weight": "FLUX",
    "lora_unet_double_blocks_0_img_attn_qkv.lora_{}.weight": "FLUX",
    "transformer.transformer_blocks.0.attn.to_q.lora_{}.weight": "Stable Diffusion 3",
}


@pytest.mark.parametrize("name", LORAS)
def test_a_lora_of_another_family_is_refused_by_its_name(tiny_sd: Path, tmp_path: Path, name: str) -> None:
    tensors = {name.format(side): torch.randn(shape) for side, shape in (("A", (2, 8)), ("B", (8, 2)))}
    if "lora_unet" in name:
        tensors = {k.replace("_A", "_down").replace("_B", "_up"): v for k, v in tensors.items()}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(
        CheckpointError, match=f"fits no layer of the model: its layers are .*, which is of {LORAS[name]}"
    ):
        load(tiny_sd, lora=tmp_path / "x.safetensors")


def test_another_file_given_as_an_adapter_is_refused_with_what_it_holds(tiny_sd: Path, tmp_path: Path) -> None:
    save_file({"decoder.conv_in.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r'no T2I-Adapter of a known layout: its tensors are "decoder\.conv_in'):
        load(tiny_sd, adapters={"canny": tmp_path / "x.safetensors"})
