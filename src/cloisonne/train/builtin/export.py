"""Writes trained members in the layout of a diffusers pipeline folder: float16 safetensors, config.json,
provenance.json."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from torch import nn

from cloisonne.models.builtin import PROVENANCE, digest
from cloisonne.models.text.vocabulary import WORDS
from cloisonne.train.base.networks import SCHEDULE
from cloisonne.train.loop import Progress
from cloisonne.world.vocabulary import vocabulary

LARGEST_FILE = 14_000_000
"""Maximum size of a safetensors file in bytes; larger members are sharded, with diffusers' index."""


def export_pretrained(model: Any, folder: Path) -> None:
    """Write a diffusers or transformers model in half precision; large models are sharded."""
    folder.mkdir(parents=True, exist_ok=True)
    half = {
        name: t.detach().cpu().half().contiguous() for name, t in model.state_dict().items() if t.is_floating_point()
    }
    model.save_config(folder) if hasattr(model, "save_config") else model.config.save_pretrained(folder)
    config = folder / "config.json"
    values = json.loads(config.read_text())
    if values.pop("_name_or_path", None) is not None:  # a path on the training machine
        config.write_text(json.dumps(values, indent=2) + "\n")
    stem = "diffusion_pytorch_model" if hasattr(model, "save_config") else "model"
    save_torch_state_dict(half, folder, filename_pattern=f"{stem}{{suffix}}.safetensors", max_shard_size=LARGEST_FILE)


def export_module(module: nn.Module, config: Mapping[str, Any], folder: Path) -> None:
    """Write a plain ``nn.Module`` (the judge): config.json and model.safetensors in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config), indent=1) + "\n")
    tensors = {name: t.detach().cpu().half().contiguous() for name, t in module.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_provenance(
    folder: Path,
    *,
    progress: Progress,
    parents: list[Path],
    metrics: Mapping[str, float],
    first_seed: int,
    device: str,
    begun_with: str | None = None,
) -> None:
    """Write ``provenance.json`` of a member: how, and from which parents, it was trained.

    begun_with: digest of the member that was fine-tuned, if any.
    """
    record = {
        "code": _commit(),
        "versions": {name: _version(name) for name in ("torch", "diffusers", "transformers")},
        "data_seed": first_seed,
        "device": device,
        "minutes": round(progress.seconds / 60, 1),
        "steps": progress.step,
        "pictures": progress.pictures,
        "metrics": {name: round(value, 4) for name, value in metrics.items()},
        "sha256": digest(folder),
        "parents": {parent.name: digest(parent) for parent in parents},
    }
    if begun_with is not None:
        record["begun_with"] = begun_with
    (folder / PROVENANCE).write_text(json.dumps(record, indent=1) + "\n")


def device_words(device: torch.device) -> str:
    """The device description in provenance.json."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
            check=True,
        )
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return _version("cloisonne")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def write_index(family: Path, styles: Sequence[str] = ()) -> None:
    """Write model_index.json, the scheduler, the native values of the family, and its training vocabulary.

    styles: those that its base was trained on.
    """
    DDIMScheduler(
        beta_start=SCHEDULE["beta_start"],
        beta_end=SCHEDULE["beta_end"],
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    ).save_pretrained(family / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (family / "model_index.json").write_text(json.dumps(index, indent=1) + "\n")
    native: dict[str, Any] = {"width": 128, "height": 128, "steps": 20, "guidance": 2.5, "sampler": "ddim"}
    native |= {"method": "reco", "similarity": 3.0, "conditional_controls": True}
    (family / "family.json").write_text(json.dumps({"version": 1, "native": native}, indent=1) + "\n")
    (family / WORDS).write_text(json.dumps(vocabulary(styles), indent=1) + "\n")
