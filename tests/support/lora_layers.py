"""LoRA files layer by layer: any tensors of some layers of the tiny UNet, and what was made of them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.unet.region_lora import Dense, LowRank

ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0"
LINEAR, KEYS = f"{ATTENTION}.attn1.to_q", f"{ATTENTION}.attn2.to_k"
CONV, POINT = "down_blocks.0.resnets.0.conv1", "down_blocks.1.attentions.0.proj_in"
NORM = "down_blocks.0.resnets.0.norm1"
LAYERS = (LINEAR, KEYS, CONV, POINT)
Tensors = dict[str, Tensor]
Weights = dict[str, Tensor]


def shapes(folder: Path) -> dict[str, Any]:
    return {name: tuple(p.shape) for name, p in load(folder).net.unet.named_parameters()}


def kohya(layer: str) -> str:
    return "lora_unet_" + layer.replace(".", "_")


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))) * 0.3


def low_rank(shape: tuple[int, ...], rank: int, seed: int = 0) -> Tensors:
    up = rand(shape[0], rank, *(1 for _ in shape[2:]), seed=seed)
    return {"lora_down.weight": rand(rank, *shape[1:], seed=seed), "lora_up.weight": up}


def product(tensors: Tensors) -> Tensor:
    down, up = tensors["lora_down.weight"], tensors["lora_up.weight"]
    return (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])


def saved(path: Path, layers: dict[str, Tensors], header: dict[str, str] | None = None) -> Path:
    save_file({f"{kohya(name)}.{end}": t for name, own in layers.items() for end, t in own.items()}, path, header)
    return path


def fused(folder: Path, file: Path, scale: float = 1.0) -> Weights:
    return dict(load(folder, lora=(file, scale)).net.unet.state_dict())


def loaded(folder: Path, where: str, file: Path) -> Model:
    return load(folder, lora=file) if where == "lora" else load(folder, regional_lora={"x": file})


def regional(folder: Path, file: Path) -> dict[str, Tensor]:
    """What every layer that is held beside the UNet adds, as a weight."""
    model = load(folder, regional_lora={"x": file})
    found = {}
    for name, one in model.net.loras["x"].layers.items():
        if isinstance(one, Dense):
            found[name] = one.weight
        else:
            assert isinstance(one, LowRank)
            found[name] = product({"lora_down.weight": one.down, "lora_up.weight": one.up})
    return found
