"""Folders with the configurations of published checkpoints, word for word but for their sizes, and random weights.

Every value is as published: class names, missing keys, keys that a class does not take, ids of another tokenizer.
``SIZES`` says which numbers are made small; the tables of tokens shrink with them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiny import tiny_tokenizer

BETAS = {"beta_end": 0.012, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000}
PNDM = {
    "_class_name": "PNDMScheduler",
    **BETAS,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
DDIM = {
    "_class_name": "DDIMScheduler",
    **BETAS,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "trained_betas": None,
}
EULER = {
    "_class_name": "EulerDiscreteScheduler",
    **BETAS,
    "clip_sample": False,
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
LATER_PNDM = {**PNDM, "clip_sample": False, "prediction_type": "epsilon"}
"""As versions since 0.10 of diffusers wrote it."""
SCHEDULERS: dict[str, dict[str, Any]] = {
    "sd 1.4": {"_diffusers_version": "0.4.0.dev0", **PNDM},
    "sd 1.5": {"_diffusers_version": "0.6.0", **PNDM, "clip_sample": False},
    "sd 1.5, saved again": {
        "_diffusers_version": "0.17.0.dev0",
        **LATER_PNDM,
        "clip_sample_range": 1.0,
        "dynamic_thresholding_ratio": 0.995,
        "sample_max_value": 1.0,
        "thresholding": False,
    },
    "sd 1.5 inpainting": {"_diffusers_version": "0.6.0.dev0", **DDIM},
    "sd 2.1": {
        "_diffusers_version": "0.8.0",
        **DDIM,
        "prediction_type": "v_prediction",
        "skip_prk_steps": True,
    },
    "sd 2.1 base": {"_diffusers_version": "0.10.0.dev0", **LATER_PNDM},
    "sd 2 inpainting": {"_diffusers_version": "0.8.0", **PNDM, "clip_sample": False},
    "sdxl": {"_diffusers_version": "0.19.0.dev0", **EULER},
    "sdxl inpainting": {"_diffusers_version": "0.21.0.dev0", **EULER},
    "paint by example": {"_diffusers_version": "0.10.0.dev0", **LATER_PNDM},
}

CROSS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
CROSS_UP, PLAIN_UP = "CrossAttnUpBlock2D", "UpBlock2D"
UNET = {
    "_class_name": "UNet2DConditionModel",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": [CROSS, CROSS, CROSS, PLAIN],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": [PLAIN_UP, CROSS_UP, CROSS_UP, CROSS_UP],
}
LATER_KEYS = {
    "addition_embed_type": None,
    "addition_embed_type_num_heads": 64,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "mid_block_only_cross_attention": None,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "num_class_embeds": None,
    "only_cross_attention": False,
    "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "upcast_attention": None,
    "use_linear_projection": False,
}
UNET_2 = {
    **UNET,
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "dual_cross_attention": False,
    "use_linear_projection": True,
}
UNET_2_LATER = {**UNET_2, "num_class_embeds": None, "only_cross_attention": False}
UNET_XL = {
    **UNET,
    **LATER_KEYS,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": [PLAIN, CROSS, CROSS],
    "encoder_hid_dim_type": None,
    "num_attention_heads": None,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": [CROSS_UP, CROSS_UP, PLAIN_UP],
    "use_linear_projection": True,
}
UNETS: dict[str, dict[str, Any]] = {
    "sd 1.4": {"_diffusers_version": "0.2.2", **UNET},
    "sd 1.5": {"_diffusers_version": "0.6.0", **UNET},
    "sd 1.5, saved again": {"_diffusers_version": "0.17.0.dev0", **UNET, **LATER_KEYS},
    "sd 1.5 inpainting": {"_diffusers_version": "0.6.0.dev0", **UNET, "in_channels": 9, "sample_size": 32},
    "sd 2.1": {"_diffusers_version": "0.10.0.dev0", **UNET_2_LATER, "sample_size": 96, "upcast_attention": True},
    "sd 2.1 base": {"_diffusers_version": "0.10.0.dev0", **UNET_2_LATER},
    "sd 2 inpainting": {"_diffusers_version": "0.8.0", **UNET_2, "in_channels": 9, "sample_size": 32},
    "sdxl": {"_diffusers_version": "0.19.0.dev0", **UNET_XL},
    "sdxl inpainting": {
        "_diffusers_version": "0.21.0.dev0",
        **UNET_XL,
        "attention_type": "default",
        "dropout": 0.0,
        "in_channels": 9,
    },
    "paint by example": {"_diffusers_version": "0.10.0.dev0", **UNET, "in_channels": 9},
}

VAE = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
VAES: dict[str, dict[str, Any]] = {
    "sd 1.4": {"_diffusers_version": "0.2.2", **VAE, "sample_size": 512},
    "sd 1.5": {"_diffusers_version": "0.6.0", **VAE, "sample_size": 512},
    "sd 1.5, saved again": {"_diffusers_version": "0.17.0.dev0", **VAE, "sample_size": 512, "scaling_factor": 0.18215},
    "sd 1.5 inpainting": {"_diffusers_version": "0.6.0.dev0", **VAE, "sample_size": 256},
    "sd 2.1": {"_diffusers_version": "0.10.0.dev0", **VAE, "sample_size": 768},
    "sd 2.1 base": {"_diffusers_version": "0.10.0.dev0", **VAE, "sample_size": 768},
    "sd 2 inpainting": {"_diffusers_version": "0.8.0", **VAE, "sample_size": 256},
    "sdxl": {
        "_diffusers_version": "0.20.0.dev0",
        **VAE,
        "force_upcast": True,
        "sample_size": 1024,
        "scaling_factor": 0.13025,
    },
    "sdxl inpainting": {
        "_diffusers_version": "0.21.0.dev0",
        **VAE,
        "force_upcast": True,
        "sample_size": 1024,
        "scaling_factor": 0.13025,
    },
    "paint by example": {"_diffusers_version": "0.10.0.dev0", **VAE, "sample_size": 256},
}

CLIP_L = {
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "torch_dtype": "float32",
    "vocab_size": 49408,
}
OPEN_CLIP = {**CLIP_L, "hidden_act": "gelu", "hidden_size": 1024, "projection_dim": 512, "torch_dtype": "float16"}
BIG_G = {
    **OPEN_CLIP,
    "architectures": ["CLIPTextModelWithProjection"],
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
}
VISION = {
    "architectures": ["PaintByExampleImageEncoder"],
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "quick_gelu",
    "hidden_size": 1024,
    "image_size": 224,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 24,
    "patch_size": 14,
    "projection_dim": 768,
    "torch_dtype": "float32",
}
WORD = {"__type": "AddedToken", "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
TOKENIZER = {
    "add_prefix_space": False,
    "bos_token": {**WORD, "content": "<|startoftext|>"},
    "do_lower_case": True,
    "eos_token": {**WORD, "content": "<|endoftext|>"},
    "errors": "replace",
    "model_max_length": 77,
    "pad_token": "<|endoftext|>",
    "tokenizer_class": "CLIPTokenizer",
    "unk_token": {**WORD, "content": "<|endoftext|>"},
}
CHECKER = ["stable_diffusion", "StableDiffusionSafetyChecker"]
EXTRACTOR = ["transformers", "CLIPFeatureExtractor"]
MEMBERS = {
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
MEMBERS_XL = {
    **MEMBERS,
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
}
INDICES: dict[str, dict[str, Any]] = {
    "sd 1.4": {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.2.2",
        "feature_extractor": EXTRACTOR,
        "safety_checker": CHECKER,
        **MEMBERS,
    },
    "sd 1.5": {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.6.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": CHECKER,
        **MEMBERS,
    },
    "sd 1.5, saved again": {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.17.0.dev0",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        **MEMBERS,
    },
    "sd 1.5 inpainting": {
        "_class_name": "StableDiffusionInpaintPipeline",
        "_diffusers_version": "0.6.0.dev0",
        "feature_extractor": EXTRACTOR,
        "safety_checker": CHECKER,
        **MEMBERS,
    },
    "sd 2.1": {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.10.0.dev0",
        "feature_extractor": EXTRACTOR,
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        **MEMBERS,
    },
    "sd 2.1 base": {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.10.0.dev0",
        "feature_extractor": EXTRACTOR,
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        **MEMBERS,
    },
    "sd 2 inpainting": {
        "_class_name": "StableDiffusionInpaintPipeline",
        "_diffusers_version": "0.8.0",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        **MEMBERS,
    },
    "sdxl": {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": "0.19.0.dev0",
        "force_zeros_for_empty_prompt": True,
        "add_watermarker": None,
        **MEMBERS_XL,
    },
    "sdxl inpainting": {
        "_class_name": "StableDiffusionXLInpaintPipeline",
        "_diffusers_version": "0.21.0.dev0",
        "force_zeros_for_empty_prompt": True,
        "requires_aesthetics_score": False,
        **MEMBERS_XL,
    },
    "paint by example": {
        "_class_name": "PaintByExamplePipeline",
        "_diffusers_version": "0.10.0.dev0",
        "feature_extractor": EXTRACTOR,
        "image_encoder": ["paint_by_example", "PaintByExampleImageEncoder"],
        "requires_safety_checker": False,
        "safety_checker": CHECKER,
        "unet": MEMBERS["unet"],
        "vae": MEMBERS["vae"],
    },
}
for _table in (SCHEDULERS, UNETS, VAES, INDICES):
    _table["reco"] = _table["sd 1.4"]  # whose fine-tuned weights its authors publish, with further tokens
PUBLISHED = tuple(INDICES)
BINS = {"reco": 16}
"""Position tokens: a size, 1000 as published."""

SIZES: dict[str, dict[str, Any]] = {
    "unet": {
        "attention_head_dim": {4: [1, 2, 2, 2], 3: [1, 2, 2]},
        "block_out_channels": {4: [8, 16, 16, 16], 3: [8, 16, 16]},
        "transformer_layers_per_block": {3: [1, 1, 2]},
        "cross_attention_dim": {768: 16, 1024: 16, 2048: 40},
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": {2816: 6 * 8 + 20},
        "sample_size": 8,
    },
    "vae": {
        "block_out_channels": {4: [4, 4, 8, 8]},
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    "text": {
        "hidden_size": {768: 16, 1024: 16, 1280: 24},
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "projection_dim": {512: 12, 768: 16, 1280: 20},
    },
    "vision": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 9,
        "num_attention_heads": 2,
        "image_size": 28,
        "projection_dim": 16,
    },
}
"""The small value of a number; of a list by its length, of some numbers by themselves."""


def small(config: Mapping[str, Any], kind: str, **further: Any) -> dict[str, Any]:
    """The configuration with its sizes made small. Numbers that stand for all levels stay."""

    def shrunk(key: str, value: Any) -> Any:
        size = SIZES[kind].get(key)
        if size is None or value is None:
            return value
        if isinstance(size, dict):
            return size[len(value)] if isinstance(value, list) else size.get(value, value)
        return size

    return {key: shrunk(key, value) for key, value in config.items()} | further


def write_published(folder: Path, name: str) -> Path:
    """A folder of ``PUBLISHED``."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    torch.manual_seed(0)
    index = INDICES[name]
    _network(folder / "unet", UNet2DConditionModel, small(UNETS[name], "unet"))
    _network(folder / "vae", AutoencoderKL, small(VAES[name], "vae"))
    if "image_encoder" in index and index["image_encoder"][0]:
        _image_encoder(folder / "image_encoder")
    else:
        _texts(folder, name)
    scheduler = SCHEDULERS[name]
    _json(folder / "scheduler" / "scheduler_config.json", scheduler)
    if index.get("feature_extractor", [None])[0]:
        _json(folder / "feature_extractor" / "preprocessor_config.json", {"crop_size": 224, "size": 224})
    if index.get("safety_checker", [None])[0]:
        _json(folder / "safety_checker" / "config.json", {"architectures": [CHECKER[1]]})
    _json(folder / "model_index.json", {**index, "scheduler": ["diffusers", scheduler["_class_name"]]})
    return folder


def _texts(folder: Path, name: str) -> None:
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    first = {"sdxl": {**CLIP_L, "projection_dim": 768}, "sd 2": OPEN_CLIP}
    configs = [next((config for start, config in first.items() if name.startswith(start)), CLIP_L)]
    configs += [BIG_G] if name.startswith("sdxl") else []
    for number, config in zip(("", "_2"), configs, strict=False):
        tokenizer = tiny_tokenizer(BINS.get(name, 0))
        tokenizer.save_pretrained(folder / f"tokenizer{number}")
        _json(
            folder / f"tokenizer{number}" / "tokenizer_config.json",
            {**TOKENIZER, "pad_token": "!"} if number else TOKENIZER,
        )
        own = small(config, "text", vocab_size=len(tokenizer))
        kind: Any = CLIPTextModelWithProjection if number else CLIPTextModel
        torch.manual_seed(1)
        module = kind(CLIPTextConfig(**{key: value for key, value in own.items() if key not in _NOT_GIVEN}))
        module.save_pretrained(folder / f"text_encoder{number}")
        _json(folder / f"text_encoder{number}" / "config.json", own)


_NOT_GIVEN = ("architectures", "model_type", "torch_dtype")


def _image_encoder(folder: Path) -> None:
    from diffusers.pipelines.deprecated.paint_by_example.image_encoder import PaintByExampleImageEncoder
    from transformers import CLIPVisionConfig

    own = small(VISION, "vision")
    config = CLIPVisionConfig(**{key: value for key, value in own.items() if key not in _NOT_GIVEN})
    PaintByExampleImageEncoder(config, proj_size=16).save_pretrained(folder)
    _json(folder / "config.json", own)


def _network(folder: Path, kind: Any, config: Mapping[str, Any]) -> None:
    module = kind(**{key: value for key, value in config.items() if not key.startswith("_")})
    module.save_pretrained(folder)
    _json(folder / "config.json", config)


def _json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
