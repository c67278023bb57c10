"""Random LoRAs for a folder's networks, in the files that trainers write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

NONE: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


def pipeline_of(folder: Path) -> Any:
    """diffusers' pipeline of a folder, quiet."""
    xl = (folder / "text_encoder_2").is_dir()
    kind: Any = StableDiffusionXLPipeline if xl else StableDiffusionPipeline
    pipeline = kind.from_pretrained(folder, low_cpu_mem_usage=False, **({} if xl else NONE))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def lora_weights(
    folder: Path, seed: int = 0, *, layers: Sequence[str] = ATTENTION, text: bool = True
) -> dict[str, dict[str, Tensor]]:
    """Random LoRA weights by PEFT's names: of the UNet's layers with these names, and of the text encoders."""
    torch.manual_seed(seed)
    pipeline = pipeline_of(folder)
    found = {}
    for name in ("unet", "text_encoder", "text_encoder_2") if text else ("unet",):
        module = getattr(pipeline, name, None)
        if module is None:
            continue
        wanted = list(layers) if name == "unet" else ["q_proj", "k_proj", "v_proj", "out_proj"]
        module.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=wanted))
        state = get_peft_model_state_dict(module, save_embedding_layers=False)
        found[name] = {key: torch.randn_like(tensor) * 0.3 for key, tensor in state.items()}
    return found


def peft_file(path: Path, made: dict[str, dict[str, Tensor]]) -> Path:
    """A file of them by PEFT's names."""
    save_file({f"{part}.{name}": t for part, own in made.items() for name, t in own.items()}, path)
    return path


def kohya_file(path: Path, made: dict[str, dict[str, Tensor]], alpha: float) -> Path:
    """A file of them by kohya's names."""
    xl = "text_encoder_2" in made
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1" if xl else "lora_te", "text_encoder_2": "lora_te2"}
    found = {}
    for part, own in made.items():
        for name, tensor in own.items():
            layer, _, side = name.removesuffix(".weight").rpartition(".")
            layer = layer if part == "unet" or layer.startswith("text_model.") else f"text_model.{layer}"
            key = f"{prefixes[part]}_{layer.replace('.', '_')}"
            found[f"{key}.{'lora_down' if side == 'lora_A' else 'lora_up'}.weight"] = tensor
            found[f"{key}.alpha"] = torch.tensor(alpha)
    save_file(found, path)
    return path
