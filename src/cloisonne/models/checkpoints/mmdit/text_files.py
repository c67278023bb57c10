"""Text encoders of diffusion transformers in safetensors or GGUF files, by the names of transformers or llama.cpp.

Configurations are read from the shapes of tensors; what shapes do not have is that of the published encoders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.ldm.shapes import clip_text_config
from cloisonne.models.checkpoints.mmdit.llama_names import names_of_transformers
from cloisonne.models.checkpoints.mmdit.members import truncated
from cloisonne.models.checkpoints.mmdit.stored_file import StoredFile
from cloisonne.models.checkpoints.mmdit.transformer_file import with_stored
from cloisonne.models.checkpoints.tensor_file import listed
from cloisonne.models.mapped import without_random_values
from cloisonne.models.quantized.layers import Stored

Kind = Literal["CLIP", "T5", "Qwen3"]
MARKS: Mapping[Kind, str] = {
    "T5": "encoder.block.0.layer.0.SelfAttention.q.weight",
    "CLIP": "encoder.layers.0.self_attn.q_proj.weight",
    "Qwen3": "layers.0.self_attn.q_norm.weight",
}
"""The end of the name of a tensor of each kind of text encoder; what stands before it, all its tensors have."""
OTHERS = {
    "layers.0.self_attn.q_proj.weight": "a language model other than Qwen3",
    "vision_model.encoder.layers.0.self_attn.q_proj.weight": "an image encoder",
}
"""The same of networks that are not supported."""
WITHIN = "text_encoders."
"""Prefix of text encoders in files of several networks."""
HARMLESS = ("logit_scale", "lm_head.weight", "position_ids", "spiece_model", "tekken_model", "scaled_fp8")
"""Ends of names of what text encoders do not need, such as the head of a language model."""


@dataclass(frozen=True, eq=False)
class TextTensors:
    """The tensors of one text encoder, by the names of transformers without their prefix, and where they are from."""

    kind: Kind
    tensors: Mapping[str, Tensor | Stored]
    source: Path
    prefix: str

    @property
    def width(self) -> int:
        """Of a hidden state."""
        names = ("embeddings.token_embedding.weight", "shared.weight", "embed_tokens.weight")
        found = next((self.tensors[name] for name in names if name in self.tensors), None)
        return 0 if found is None else found.shape[1]


def texts_within(file: StoredFile) -> tuple[TextTensors, ...]:
    """The text encoders in a file of several networks, in its order."""
    groups = dict.fromkeys(name.split(".")[1] for name in file.tensors if name.startswith(WITHIN))
    found = (_text(file, f"{WITHIN}{group}.") for group in groups)
    return tuple(text for text in found if text is not None)


def text_of(file: StoredFile) -> TextTensors:
    """The text encoder that a file holds alone. Raises CheckpointError where it holds none of a known kind."""
    found = _text(file, "")
    if found is None:
        other = next((what for mark, what in OTHERS.items() if any(n.endswith(mark) for n in file.tensors)), None)
        what = f"{other}: its tensors" if other else "no text encoder: its tensors"
        raise CheckpointError(
            f'"{file.source}" holds {what} are {listed(file.tensors)}; give one of {", ".join(sorted(MARKS))}.'
        )
    return found


def _text(file: StoredFile, within: str) -> TextTensors | None:
    named = names_of_transformers(name for name in file.tensors if name.startswith(within))
    for kind, mark in MARKS.items():
        prefix = next((name.removesuffix(mark) for name in named.values() if name.endswith(mark)), "vision_model.")
        if prefix.endswith("vision_model."):
            continue
        file.skip(lambda name: name.startswith(within) and name.endswith(HARMLESS), "not needed to encode texts")
        taken = {named[f"{within}{name}"]: own for name, own in file.take(within).items()}
        return _of_kind(kind, taken, file.source, prefix)
    return None


def _of_kind(kind: Kind, tensors: Mapping[str, Tensor | Stored], source: Path, prefix: str) -> TextTensors:
    """Without the prefix. CLIP's projection stands next to the rest, which has ``text_model.`` or nothing in front."""
    inner = "text_model." if kind == "CLIP" else ""
    outer = prefix.removesuffix(inner)
    own = {name: tensor for name, tensor in tensors.items() if not name.endswith(HARMLESS)}
    bare = {name.removeprefix(outer).removeprefix(inner): tensor for name, tensor in own.items()}
    return TextTensors(kind, bare, source, outer)


def clip_encoder(text: TextTensors, tokenizer: Any, dtype: torch.dtype, *, second: bool, projected: bool) -> Any:
    """CLIP's text encoder. second: OpenCLIP's bigG, in place of OpenAI's. projected: its pooled text is projected."""
    bare = {name: _numbers(own, dtype) for name, own in text.tensors.items()}
    projection = bare.pop("text_projection.weight", None)
    config: dict[str, Any] = clip_text_config(bare) | {"hidden_act": "gelu" if second else "quick_gelu"}
    config |= {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    if projected and projection is not None:
        module: nn.Module = CLIPTextModelWithProjection(CLIPTextConfig(**config, projection_dim=len(projection)))
        bare["text_projection.weight"] = projection
    else:
        module = CLIPTextModel(CLIPTextConfig(**config))
    prefixed = any(name.startswith("text_model.") for name in module.state_dict())
    whole_name = "text_projection.weight"
    own = {f"text_model.{name}" if prefixed and name != whole_name else name: tensor for name, tensor in bare.items()}
    return _filled(module, text, own, dtype)


def t5_encoder(text: TextTensors, dtype: torch.dtype) -> Any:
    """T5's encoder, v1.1."""
    own = dict(text.tensors)
    name = "shared.weight" if "shared.weight" in own else "encoder.embed_tokens.weight"
    if name not in own:
        raise CheckpointError(f'"{text.source}" lacks the tensor "{name}"; download it again.')
    own["shared.weight"] = _numbers(own[name], dtype)
    with without_random_values():
        module: Any = T5EncoderModel(_t5_config(own))
    # Its two names of the embeddings are one tensor.
    own |= {name: own["shared.weight"] for name in module.state_dict() if name.endswith("embed_tokens.weight")}
    return _filled(module, text, own, dtype)


def qwen3_encoder(text: TextTensors, dtype: torch.dtype, layers: Sequence[int]) -> Any:
    """Qwen3 without its last layers where no hidden state of ``layers`` needs them; see :func:`truncated`."""
    with without_random_values():
        module: Any = truncated(Qwen3Model(_qwen3_config(text.tensors)), layers, text.source)
    own = {name: tensor for name, tensor in text.tensors.items() if _layer(name) < len(module.layers)}
    return _filled(module, text, own, dtype)


def _layer(name: str) -> int:
    """The number of the layer that a tensor of Qwen3 is of; -1 for none."""
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "layers" else -1


def _filled(module: nn.Module, text: TextTensors, tensors: Mapping[str, Tensor | Stored], dtype: torch.dtype) -> Any:
    return with_stored(module, tensors, text.source, dtype, text.prefix or "a text encoder")


def _numbers(own: Tensor | Stored, dtype: torch.dtype) -> Tensor:
    return own.numbers(dtype) if isinstance(own, Stored) else own.to(dtype)


def _t5_config(t: Mapping[str, Tensor | Stored]) -> T5Config:
    bias = t["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    config: Any = T5Config  # transformers annotates no further keywords
    return config(
        vocab_size=len(t["shared.weight"]),
        d_model=t["shared.weight"].shape[1],
        d_kv=len(t["encoder.block.0.layer.0.SelfAttention.q.weight"]) // bias.shape[1],
        d_ff=len(t["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"]),
        num_layers=len({name.split(".")[2] for name in t if name.startswith("encoder.block.")}),
        num_heads=bias.shape[1],
        relative_attention_num_buckets=len(bias),
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )


def _qwen3_config(t: Mapping[str, Tensor | Stored]) -> Qwen3Config:
    head, attention = len(t["layers.0.self_attn.q_norm.weight"]), "layers.0.self_attn"
    config: Any = Qwen3Config  # transformers annotates no further keywords
    return config(
        vocab_size=len(t["embed_tokens.weight"]),
        hidden_size=t["embed_tokens.weight"].shape[1],
        intermediate_size=len(t["layers.0.mlp.gate_proj.weight"]),
        num_hidden_layers=max(map(_layer, t)) + 1,
        num_attention_heads=len(t[f"{attention}.q_proj.weight"]) // head,
        num_key_value_heads=len(t[f"{attention}.k_proj.weight"]) // head,
        head_dim=head,
        max_position_embeddings=40960,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        rms_norm_eps=1e-6,
    )
