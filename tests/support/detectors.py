"""Tiny random detectors and a segmenter, in the layout in which transformers publishes them."""

import json
from pathlib import Path
from typing import Any

from tiny import tiny_tokenizer

WORDS = ["cat", "dog", "car", "bird", "red", "blue", "yellow", "hot", "remote", "control", "stop", "sign"]
"""Words that are one token for the tiny BERT tokenizer; others are spelt in letters."""


def write_owl(folder: Path, *, version: int = 2) -> Path:
    """OWLv2, or OWL-ViT as version 1: images of 32 pixels in 16 patches."""
    import torch
    import transformers

    torch.manual_seed(0)
    name = "Owlv2" if version == 2 else "OwlViT"
    tokenizer = tiny_tokenizer(0)
    tokenizer.model_max_length = 16
    tokenizer.pad_token = "!"
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        **tower,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = getattr(transformers, f"{name}Config")(
        text_config=text,
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    network = getattr(transformers, f"{name}ForObjectDetection")(config)
    _randomise(network)
    with torch.no_grad():
        # So that no confidence is 0 or 1.
        for layer in (network.class_head.logit_shift, network.class_head.logit_scale):
            layer.weight.mul_(0.1)
    size = {"height": 32, "width": 32}
    images = getattr(transformers, f"{name}ImageProcessorPil")(size=size)
    _save(folder, network, images, name, tokenizer)
    return folder


def write_grounding_dino(folder: Path, *, text_length: int = 32, mm: bool = False) -> Path:
    """Grounding DINO on a two-stage Swin of 64 pixels, with six queries; or MM Grounding DINO.

    text_length: most tokens of a text.
    """
    import torch
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        MMGroundingDinoConfig,
        MMGroundingDinoForObjectDetection,
        SwinConfig,
    )

    torch.manual_seed(1)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        ".",
        "?",
        *WORDS,
        *letters,
        *(f"##{one}" for one in letters),
    ]
    tokenizer = BertTokenizer(vocab={token: place for place, token in enumerate(dict.fromkeys(tokens))})
    kinds = (GroundingDinoConfig, GroundingDinoForObjectDetection)
    configuration, architecture = (MMGroundingDinoConfig, MMGroundingDinoForObjectDetection) if mm else kinds
    config = configuration(
        backbone_config=SwinConfig(
            image_size=64,
            patch_size=4,
            embed_dim=8,
            depths=[1, 1],
            num_heads=[1, 2],
            window_size=4,
            out_features=["stage1", "stage2"],
        ),
        text_config=BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
        ),
        d_model=32,
        encoder_layers=1,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
        num_queries=6,
        num_feature_levels=2,
        max_text_len=text_length,
    )
    network: Any = architecture(config)
    _randomise(network)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    _save(folder, network, images, "GroundingDino", tokenizer)
    return folder


def write_sam(folder: Path) -> Path:
    """SAM on images of 32 pixels."""
    import torch
    from transformers import SamConfig, SamImageProcessorPil, SamModel

    torch.manual_seed(2)
    config = SamConfig(
        vision_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "output_channels": 16,
            "global_attn_indexes": [0],
            "window_size": 0,
            "mlp_dim": 32,
            "num_pos_feats": 8,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 32, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "iou_head_hidden_dim": 16,
            "iou_head_depth": 2,
        },
    )
    network = SamModel(config)
    _randomise(network)
    images = SamImageProcessorPil(size={"longest_edge": 32}, pad_size={"height": 32, "width": 32})
    _save(folder, network, images, "Sam")
    return folder


def _randomise(network: Any) -> None:
    """Weights large enough that boxes and confidences differ, but for those that place the boxes."""
    import torch

    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)


def _save(folder: Path, network: Any, images: Any, name: str, tokenizer: Any = None) -> None:
    """The files that the hub has: preprocessor_config.json with the names of classes, not those of their backends."""
    network.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    file = folder / "preprocessor_config.json"
    named = {"image_processor_type": f"{name}ImageProcessor", "processor_class": f"{name}Processor"}
    file.write_text(json.dumps(json.loads(file.read_text()) | named))
