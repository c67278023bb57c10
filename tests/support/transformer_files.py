"""Tiny diffusion transformers with the heads and constants of the published ones, as folders and as ComfyUI's files."""

import json
from pathlib import Path
from typing import Any

import torch
from flux import flux_vae, write_flux
from flux2 import write_flux2
from ldm import ldm_vae
from original_names import original
from safetensors.torch import load_file, save_file
from sd3 import write_sd3
from torch import Tensor
from zimage import write_zimage

from cloisonne.models.model import Model

NETWORK = "model.diffusion_model."
ENCODERS = {
    "flux": ("clip_l", "t5xxl"),
    "sd3": ("clip_l", "clip_g", "t5xxl"),
    "flux2": ("qwen3_4b",),
    "zimage": ("qwen3_4b",),
}


def rewrite(file: Path, **changes: Any) -> None:
    values = json.loads(file.read_text()) | changes
    file.unlink()
    file.write_text(json.dumps(values))


def write_folder_of(folder: Path, kind: str) -> Path:
    """A folder of a family, and what distinguishes its members: "flux schnell", "sd3 3.5 large without T5"."""
    scheduler = folder / "scheduler" / "scheduler_config.json"
    if kind in ("flux", "flux schnell"):
        heads = {"attention_head_dim": 128, "num_attention_heads": 1, "axes_dims_rope": (16, 56, 56)}
        write_flux(folder, embedded=kind == "flux", transformer=heads)
        rewrite(scheduler, base_image_seq_len=256, max_image_seq_len=4096)
        rewrite(folder / "text_encoder" / "config.json", num_attention_heads=1, hidden_act="quick_gelu")
    elif kind.startswith("sd3"):
        own = {"attention_head_dim": 64, "num_attention_heads": 1, "caption_projection_dim": 64, "sample_size": 128}
        which, t5 = kind.removeprefix("sd3 ").removesuffix(" without T5"), not kind.endswith("without T5")
        write_sd3(folder, which, transformer=own, t5=t5)
        rewrite(folder / "text_encoder" / "config.json", num_attention_heads=1, hidden_act="quick_gelu")
        rewrite(folder / "text_encoder_2" / "config.json", num_attention_heads=1, hidden_act="gelu")
    elif kind.startswith("flux2"):
        heads = {"attention_head_dim": 128, "num_attention_heads": 1, "axes_dims_rope": (32, 32, 32, 32)}
        write_flux2(folder, distilled=kind == "flux2", double=1, single=1, transformer=heads)
    else:
        heads = {"dim": 128, "n_heads": 1, "n_kv_heads": 1, "axes_dims": (32, 48, 48), "axes_lens": (1536, 512, 512)}
        write_zimage(folder, turbo=kind == "zimage turbo", layers=1, refiners=1, transformer=heads)
    if kind.startswith(("flux2", "zimage")):
        own_rope = {"rope_type": "default", "rope_theta": 1e6}
        rewrite(folder / "text_encoder" / "config.json", rope_parameters=own_rope, max_position_embeddings=40960)
    _published_vae(folder, kind)
    return folder


def _published_vae(folder: Path, kind: str) -> None:
    """With groups of the published size."""
    for file in (folder / "vae").iterdir():
        file.unlink()
    if kind.startswith("flux2"):
        from diffusers import AutoencoderKLFlux2

        vae = AutoencoderKLFlux2(block_out_channels=(32, 32, 32, 32))
        vae.bn.running_mean.copy_(torch.randn(128) * 0.3)
        vae.save_pretrained(folder / "vae")
        return
    flux_vae(32, 32).save_pretrained(folder / "vae")
    if kind.startswith("sd3"):
        rewrite(folder / "vae" / "config.json", scaling_factor=1.5305, shift_factor=0.0609)


def vae_tensors(model: Model) -> dict[str, Tensor]:
    """The autoencoder by its original names."""
    inside = {"quant_conv.": "encoder.quant_conv.", "post_quant_conv.": "decoder.post_quant_conv."}
    found = {}
    for name, tensor in ldm_vae(model.vae.module).items():
        own = name.removeprefix("first_stage_model.")
        old = next((old for old in inside if model.family == "flux2" and own.startswith(old)), "")
        found[f"{inside[old]}{own.removeprefix(old)}" if old else own] = tensor
    return found


def text_tensors(model: Model) -> dict[str, dict[str, Tensor]]:
    """The text encoders by the names of their published files, Qwen3 whole with its head."""
    found = {}
    for number, name in enumerate(ENCODERS[model.family]):
        member = model.files[0].parent.parent / f"text_encoder{'' if number == 0 else f'_{number + 1}'}"
        if not member.is_dir():
            continue
        tensors = load_file(member / "model.safetensors")
        if name == "qwen3_4b":
            tensors = {f"model.{own.removeprefix('model.')}": tensor for own, tensor in tensors.items()}
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        elif name != "t5xxl":
            # Trainers wrote the names of transformers 4.
            kept = ("text_model.", "text_proj")
            tensors = {own if own.startswith(kept) else f"text_model.{own}": t for own, t in tensors.items()}
            tensors["logit_scale"] = torch.ones(())
        found[name] = tensors
    return found


def write_file(file: Path, model: Model, *, vae: str = "first_stage_model.") -> dict[str, Tensor]:
    """A whole checkpoint as ComfyUI saves it. vae: the prefix of the autoencoder."""
    tensors = {f"{NETWORK}{name}": tensor for name, tensor in original(model).items()}
    for name, own in text_tensors(model).items():
        tensors |= {f"text_encoders.{name}.transformer.{key}": tensor for key, tensor in own.items()}
    tensors |= {f"{vae}{name}": tensor for name, tensor in vae_tensors(model).items()}
    write(file, tensors)
    return tensors


def write(file: Path, tensors: dict[str, Tensor]) -> Path:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, file)
    return file
