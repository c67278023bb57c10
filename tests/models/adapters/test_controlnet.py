"""ControlNets of every layout are read to the same network, and those that do not fit the model are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from controlled import SD1, beside, drawn, scene_of, wall, write_controlled
from diffusers import ControlNetModel, UNet2DConditionModel
from ldm import ldm_controlnet
from safetensors.torch import load_file, save_file
from tiny import write_checkpoint

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.load import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_controlled(tmp_path_factory.mktemp("controlled"))


@pytest.mark.parametrize("base", ["sd1", "sd2", "xl"])
@pytest.mark.parametrize("layout", ["diffusers", "original", "original, without prefix"])
def test_single_files(folder: Path, tmp_path: Path, base: str, layout: str) -> None:
    file = tmp_path / "net.safetensors"
    module: Any = beside(folder / base, 5)
    prefix = "" if "without" in layout else "control_model."
    tensors = module.state_dict() if layout == "diffusers" else ldm_controlnet(module, prefix)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    if base == "xl" and layout != "diffusers":
        with pytest.raises(CheckpointError, match="does not have the tensors of a ControlNet for this model"):
            load(folder / base, adapters={"canny": file})
        return
    read = load(folder / base, adapters={"canny": file})
    assert torch.equal(
        drawn(read, scene_of(wall(), steps=2)),
        drawn(load(folder / base, adapters={"canny": folder / f"{base}-canny"}), scene_of(wall(), steps=2)),
    )
    assert file in read.files
    assert read.warnings == ()
    assert read.parameters > load(folder / base).parameters


@pytest.mark.parametrize("base", ["sd1", "sd2"])
def test_what_is_not_used_is_warned_of(folder: Path, tmp_path: Path, base: str) -> None:
    file = tmp_path / "net.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in ldm_controlnet(beside(folder / base, 5)).items()}
    further = {"control_model.twist.weight": torch.zeros(1), "first_stage_model.decoder.conv_in.bias": torch.zeros(1)}
    save_file(tensors | further, file, {"gain": "2"})
    left, header = load(folder / base, adapters={"canny": file}).warnings
    assert f'Of the ControlNet "{file}", 1 of {len(tensors) + 2} tensors is not used' in left
    assert '"control_model.twist.weight"' in left
    assert '"gain"' in header


def edited(folder: Path, out: Path, **changes: Any) -> Path:
    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | changes))
    return out


def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path) -> None:
    def refused(base: str, source: Path, match: str) -> None:
        with pytest.raises(CheckpointError, match=match) as caught:
            load(folder / base, adapters={"canny": source})
        assert "\n" not in str(caught.value)

    refused(
        "sd1", folder / "xl-canny", r"The ControlNet for canny, of \[8, 16\] channels and text of width 40, does not"
    )
    write_checkpoint(tmp_path / "wide", unet=SD1 | {"block_out_channels": (8, 24)})
    beside(tmp_path / "wide", 1).save_pretrained(tmp_path / "wide-canny")
    refused("sd1", tmp_path / "wide-canny", r"of \[8, 24\] channels .* does not fit \"sd1\" with \[8, 16\]")
    union = edited(folder / "sd1-canny", tmp_path / "union", _class_name="ControlNetUnionModel")
    refused("sd1", union, "is a ControlNetUnionModel, which is not supported; give a ControlNetModel")
    refused("sd1", edited(folder / "sd1-canny", tmp_path / "p", global_pool_conditions=True), "pools its residuals")
    (edited(folder / "sd1-canny", tmp_path / "empty") / "diffusion_pytorch_model.safetensors").unlink()
    refused("sd1", tmp_path / "empty", "has no diffusion_pytorch_model.safetensors; download it again")
    weights = edited(folder / "sd1-canny", tmp_path / "cut") / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    refused("sd1", tmp_path / "cut", "cannot be loaded .* download it again")
    tensors = load_file(folder / "sd1-canny" / "diffusion_pytorch_model.safetensors")
    whole = dict(tensors)
    tensors.pop("conv_in.bias")
    save_file(tensors, edited(folder / "sd1-canny", tmp_path / "less") / "diffusion_pytorch_model.safetensors")
    refused("sd1", tmp_path / "less", "lacks 1 tensors, such as conv_in.bias")
    save_file(tensors, tmp_path / "less.safetensors")
    refused("sd1", tmp_path / "less.safetensors", "does not have the tensors of a ControlNet for this model")
    save_file(whole, tmp_path / "whole.safetensors")
    refused("sd2", tmp_path / "whole.safetensors", "does not have the tensors of a ControlNet for this model")
    narrow: Any = UNet2DConditionModel.from_pretrained(folder / "sd1" / "unet", low_cpu_mem_usage=False)
    ControlNetModel.from_unet(narrow, conditioning_embedding_out_channels=(4, 8)).save_pretrained(tmp_path / "narrow")
    refused("sd1", tmp_path / "narrow", 'takes 2 pixels for a latent one, and "sd1" has 8')
    with pytest.raises(CapabilityError, match=r"cannot do control of kind depth; load one"):
        drawn(load(folder / "sd1", adapters={"canny": folder / "sd1-canny"}), scene_of(wall(kind="depth")))
