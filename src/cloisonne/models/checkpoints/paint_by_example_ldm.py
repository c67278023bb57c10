"""Convert Paint by Example's original checkpoint (LDM layout, ``model.ckpt``) to its diffusers folder."""

import json
from pathlib import Path
from typing import Any

from diffusers import __version__ as diffusers_version
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.files import quiet
from cloisonne.models.checkpoints.ldm.constants import FAMILY_CONSTANTS, SCHEDULER
from cloisonne.models.checkpoints.ldm.names import UNET
from cloisonne.models.checkpoints.ldm.shapes import Tensors, clip_vision_config, unet_config
from cloisonne.models.checkpoints.ldm.single_file import unet_of, vae_of
from cloisonne.models.families import FAMILIES
from cloisonne.models.vae import Vae

_ENCODER = "cond_stage_model."
_VISION = "cond_stage_model.transformer.vision_model."
_BLOCK = {
    "ln_1": "norm1",
    "ln_2": "norm3",
    "attn.c_proj": "attn1.to_out.0",
    "mlp.c_fc": "ff.net.0.proj",
    "mlp.c_proj": "ff.net.2",
}


def is_exemplar_layout(tensors: Tensors) -> bool:
    """Whether the tensors' names are Paint by Example's."""
    return any(name.startswith(f"{_ENCODER}mapper.") for name in tensors)


def write_exemplar_folder(tensors: Tensors, source: Path, out: Path) -> None:
    """Write the folder of PaintByExamplePipeline: UNet, autoencoder, image encoder, scheduler."""
    own = {name.removeprefix(UNET): tensor for name, tensor in tensors.items() if name.startswith(UNET)}
    constants = FAMILY_CONSTANTS["sd1"]
    with quiet():
        vae = vae_of(tensors, constants.scaling, source)
        vae.save_pretrained(out / "vae")
        config = unet_config(own, heads=constants.heads, head_width=None)
        config |= {"sample_size": FAMILIES["pbe"].native.width // Vae(vae).factor}
        unet_of(tensors, config, source).save_pretrained(out / "unet")
    encoder = _encoder(tensors, source)
    (out / "image_encoder").mkdir(parents=True)
    save_file(encoder, out / "image_encoder" / "model.safetensors", metadata={"format": "pt"})
    vision = {name.removeprefix(_VISION): tensor for name, tensor in tensors.items() if name.startswith(_VISION)}
    shape: dict[str, Any] = clip_vision_config(vision) | {"projection_dim": len(encoder["proj_out.weight"])}
    config = CLIPVisionConfig(**shape, hidden_act="quick_gelu", architectures=["PaintByExampleImageEncoder"])
    _write(out / "image_encoder" / "config.json", config.to_dict())
    _write(out / "scheduler" / "scheduler_config.json", SCHEDULER | {"prediction_type": "epsilon"})
    index = {
        "_class_name": "PaintByExamplePipeline",
        "_diffusers_version": diffusers_version,
        "image_encoder": ["paint_by_example", "PaintByExampleImageEncoder"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", SCHEDULER["_class_name"]],
    }
    _write(out / "model_index.json", index)


def _encoder(tensors: Tensors, source: Path) -> dict[str, Tensor]:
    """The image encoder's tensors, by diffusers' names."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith(_ENCODER) or name.endswith("position_ids"):
            continue
        rest = name.removeprefix(_ENCODER)
        if rest.startswith("transformer."):
            found[f"model.{rest.removeprefix('transformer.')}"] = tensor
        elif rest.startswith("mapper.resblocks."):
            found |= _mapper(rest, tensor)
        elif rest.startswith(("final_ln.", "proj_out.")) or rest == "learnable_vector":
            found[rest.replace("final_ln", "final_layer_norm").replace("learnable_vector", "uncond_vector")] = tensor
        else:
            raise CheckpointError(
                f'"{source}" holds "{name}", which Paint by Example does not have; load another file.'
            )
    for needed in ("proj_out.weight", "final_layer_norm.weight", "uncond_vector"):
        if needed not in found:
            raise CheckpointError(f'"{source}" lacks the tensor for "{needed}"; download it again.')
    return found


def _mapper(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """One mapper tensor by diffusers' names; the fused queries, keys and values are split."""
    _, _, block, *rest = name.split(".")
    layer, kind = ".".join(rest[:-1]), rest[-1]
    place = f"mapper.blocks.{block}"
    if layer == "attn.c_qkv":
        parts = zip(("to_q", "to_k", "to_v"), tensor.chunk(3), strict=True)
        return {f"{place}.attn1.{part}.{kind}": values.contiguous() for part, values in parts}
    return {f"{place}.{_BLOCK.get(layer, layer)}.{kind}": tensor}


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
