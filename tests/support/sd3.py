"""Tiny random checkpoints in the layout of Stable Diffusion 3 and 3.5."""

import json
from pathlib import Path
from typing import Any

from flux import flux_vae, tiny_t5, tiny_t5_tokenizer
from tiny import tiny_text, tiny_tokenizer, write_folder

KINDS: dict[str, dict[str, Any]] = {
    "3": {},
    "3.5 medium": {"dual_attention_layers": (0, 1), "qk_norm": "rms_norm"},
    "3.5 large": {"qk_norm": "rms_norm"},
}
WIDTH = 48
"""Of T5's tokens; CLIP's are 16 and 24 wide."""
CLIP_LENGTH, T5_LENGTH = 77, 256
MOST = 12
"""Image tokens of the longest side."""


def write_sd3(
    folder: Path, kind: str = "3", *, t5: bool = True, layers: int = 3, transformer: dict[str, Any] | None = None
) -> Path:
    """A pipeline folder with random weights: eight pixels to a latent pixel, sixteen to an image token."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

    torch.manual_seed(0)
    first, second = tiny_tokenizer(0), tiny_tokenizer(0)
    second.pad_token = "!"
    config: dict[str, Any] = {
        "sample_size": 16,
        "num_layers": layers,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "caption_projection_dim": 32,
        "joint_attention_dim": WIDTH,
        "pooled_projection_dim": 36,
        "pos_embed_max_size": MOST,
    }
    own = KINDS[kind]
    dual = {"dual_attention_layers": tuple(i for i in own.get("dual_attention_layers", ()) if i < layers)}
    parts = {
        "tokenizer": first,
        "tokenizer_2": second,
        "text_encoder": tiny_text(first, projected=16),
        "text_encoder_2": tiny_text(second, width=24, projected=20),
        "transformer": SD3Transformer2DModel(**config | own | dual | (transformer or {})),
        "vae": flux_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }
    if t5:
        tokenizer = tiny_t5_tokenizer()
        parts |= {"tokenizer_3": tokenizer, "text_encoder_3": tiny_t5(tokenizer, WIDTH)}
    write_folder(folder, {"_class_name": "StableDiffusion3Pipeline"}, parts)
    if not t5:
        index = json.loads((folder / "model_index.json").read_text())
        index |= {"tokenizer_3": [None, None], "text_encoder_3": [None, None]}
        (folder / "model_index.json").write_text(json.dumps(index))
    return folder
