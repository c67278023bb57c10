"""Read single members of a pipeline folder of a diffusion transformer: networks, text encoders, tokenizers."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPTextConfig,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.files import check_weights, pretrained, read, read_json
from cloisonne.models.checkpoints.network_config import check_network, check_qwen3, check_t5, check_text
from cloisonne.models.checkpoints.parts import TextPart


def checked_members(
    folder: Path, index: Mapping[str, Any], members: Mapping[str, tuple[str, ...]], variant: str | None
) -> dict[str, str | None]:
    """The variant of each network's weights, after a check of the classes in the index."""
    for member, allowed in members.items():
        listed = index.get(member)
        found = listed[1] if isinstance(listed, list) and len(listed) == 2 else None
        if found not in allowed:
            raise CheckpointError(f'"{folder}" has {found} as its {member}; {allowed[0]} is needed.')
    return {member: check_weights(folder / member, variant=variant) for member in members if "tokenizer" not in member}


def read_network(
    kind: Any, member: Path, dtype: torch.dtype, variant: str | None, warn: list[str], *, own: Any = None
) -> Any:
    """Read a network of diffusers and check its configuration.

    warn: sentences about unused tensors are appended. own: a subclass of ``kind`` of the same configuration and
    weights, of which the network is made.
    """
    check_network(member / "config.json", read_json(member / "config.json"), kind)
    # Without accelerate a network is initialised in float32 before it is read, which takes more memory.
    theirs = {"torch_dtype": dtype, "low_cpu_mem_usage": find_spec("accelerate") is not None, "variant": variant}
    return read(member, lambda path: pretrained(own or kind, path, warn=warn, **theirs))


def read_text_encoder(kind: Any, member: Path, dtype: torch.dtype, variant: str | None, warn: list[str]) -> Any:
    """Read a text encoder of transformers, CLIP's or T5's, and check its configuration."""
    config = read_json(member / "config.json")
    if kind is T5EncoderModel:
        check_t5(member / "config.json", config, T5Config)
    else:
        check_text(member / "config.json", config, CLIPTextConfig)
    return read(member, lambda path: pretrained(kind, path, warn=warn, dtype=dtype, variant=variant))


def read_qwen(
    folder: Path,
    index: Mapping[str, Any],
    layers: Sequence[int],
    dtype: torch.dtype,
    variant: str | None,
    warn: list[str],
) -> TextPart:
    """Qwen3 as a text encoder, without its last layers where no hidden state of ``layers`` needs them.

    layers: indices of hidden states, as in transformers; -1 is after the last layer.
    """
    member = folder / "text_encoder"
    check_qwen3(member / "config.json", read_json(member / "config.json"), Qwen3Config)
    kind: Any = Qwen3ForCausalLM if index["text_encoder"][1] == "Qwen3ForCausalLM" else Qwen3Model
    whole = read(member, lambda path: pretrained(kind, path, warn=warn, dtype=dtype, variant=variant))
    return TextPart(truncated(whole.base_model, layers, member), _with_json(folder / "tokenizer", Qwen2Tokenizer))


def truncated(module: Any, layers: Sequence[int], member: Path | str) -> Any:
    """Qwen3 without the last layers that no hidden state of ``layers`` needs. member: its name for messages."""
    count = len(module.layers)
    if max(layers) >= count:
        raise CheckpointError(
            f'"{member}" has {count} layers, and hidden states after layer {max(layers)}, before the last, are read; '
            "take the text encoder from the model's own folder."
        )
    if min(layers) >= 0:
        # Hidden states before the last are not normalised.
        module.layers = module.layers[: max(layers) + 1]
        module.config.num_hidden_layers = len(module.layers)
        module.config.layer_types = module.config.layer_types[: len(module.layers)]
    return module


def read_t5_tokenizer(member: Path, most: int | None = None) -> Any:
    """T5's tokenizer. most: of its length in tokens; None leaves it as it is."""
    tokenizer = _with_json(member, T5Tokenizer)
    if most is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, most)
    return tokenizer


def _with_json(member: Path, kind: Any) -> Any:
    """A tokenizer of a class, which is read from its tokenizer.json."""
    if not (member / "tokenizer.json").is_file():
        raise CheckpointError(f'"{member}" has no tokenizer.json; download it again.')
    return read(member, kind.from_pretrained)
