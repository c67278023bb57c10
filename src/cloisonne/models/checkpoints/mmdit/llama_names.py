"""The names of llama.cpp, in GGUF files of text encoders, as those of transformers."""

import re
from collections.abc import Iterable

_QWEN3 = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_T5 = {
    "attn_norm": "layer.0.layer_norm",
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "ffn_norm": "layer.1.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
}
_OUTSIDE_BLOCKS_OF_QWEN3 = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
_OUTSIDE_BLOCKS_OF_T5 = {"token_embd": "shared", "enc.output_norm": "encoder.final_layer_norm"}
_BLOCK = re.compile(r"(enc\.)?blk\.(\d+)\.(\w+)")


def names_of_transformers(names: Iterable[str]) -> dict[str, str]:
    """The names of transformers by those of llama.cpp; any other name is its own."""
    found = {name: name for name in names}
    of_t5 = any(name.startswith("enc.blk.") for name in found)
    for name in found:
        layer, _, end = name.rpartition(".")
        match = _BLOCK.fullmatch(layer)
        if (own := (_OUTSIDE_BLOCKS_OF_T5 if of_t5 else _OUTSIDE_BLOCKS_OF_QWEN3).get(layer)) is not None:
            found[name] = f"{own}.{end}"
        elif match is not None and (own := (_T5 if match[1] else _QWEN3).get(match[3])) is not None:
            block = f"encoder.block.{match[2]}" if match[1] else f"layers.{match[2]}"
            found[name] = f"{block}.{own}.{end}"
    return found
