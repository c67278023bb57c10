"""Tiny random checkpoints in the layout of FLUX.2 klein, and the Qwen3 that Z-Image has too."""

import json
from pathlib import Path
from typing import Any

from tiny import WORDS, write_folder

TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
"""What Qwen3's chat template writes of one message."""


def write_flux2(
    folder: Path, *, distilled: bool = True, double: int = 2, single: int = 2, transformer: dict[str, Any] | None = None
) -> Path:
    """A pipeline folder with random weights: sixteen pixels to a latent pixel, which is an image token."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel

    torch.manual_seed(0)
    tokenizer = tiny_qwen_tokenizer()
    config: dict[str, Any] = {
        "in_channels": 128,
        "num_layers": double,
        "num_single_layers": single,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 3 * 16,
        "axes_dims_rope": (4, 4, 4, 4),
        "guidance_embeds": False,
    }
    parts = {
        "tokenizer": tokenizer,
        "text_encoder": tiny_qwen(tokenizer),
        "transformer": Flux2Transformer2DModel(**config | (transformer or {})),
        "vae": flux2_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    }
    write_folder(folder, {"_class_name": "Flux2KleinPipeline", "is_distilled": distilled}, parts)
    return folder


def tiny_qwen_tokenizer() -> Any:
    """Qwen's byte-level tokenizer of ``WORDS`` and single bytes, with a chat template."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2TokenizerFast

    symbols = dict.fromkeys(sorted(ByteLevel.alphabet()))
    merges: list[tuple[str, str]] = []
    for word in WORDS.split():
        left = "Ġ"
        for right in word:
            merges += [] if (left, right) in merges else [(left, right)]
            left += right
            symbols[left] = None
    vocab = {symbol: i for i, symbol in enumerate([*symbols, "<|endoftext|>"])}
    tokenizer: Any = Qwen2TokenizerFast(vocab=vocab, merges=merges, eos_token="<|im_end|>", model_max_length=131072)
    tokenizer.add_tokens(["<|im_start|>"], special_tokens=True)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_qwen(tokenizer: Any, layers: int = 30) -> Any:
    """A Qwen3 of width 16; hidden states after layer 27 are read of FLUX.2's."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
        )
    )


def flux2_vae() -> Any:
    """FLUX.2's autoencoder of 32 channels, with statistics of 2 x 2 latent pixels."""
    import torch
    from diffusers import AutoencoderKLFlux2

    vae = AutoencoderKLFlux2(block_out_channels=(4, 4, 4, 4), norm_num_groups=4)
    vae.bn.running_mean.copy_(torch.randn(128) * 0.3)
    vae.bn.running_var.copy_(torch.rand(128) + 0.5)
    return vae


def rewrite(file: Path, **changes: Any) -> None:
    """Change values of a JSON file, which may be a hard link."""
    values = json.loads(file.read_text()) | changes
    file.unlink()
    file.write_text(json.dumps(values))
