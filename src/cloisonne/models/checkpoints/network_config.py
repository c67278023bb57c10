"""Check a network's ``config.json``: its class must take each key, and each value must be supported."""

import inspect
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cloisonne.errors import CheckpointError, spelled

UNET_FIXED: dict[str, tuple[Any, ...]] = {
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "class_embeddings_concat": (False, None),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "addition_embed_type": (None, "text_time"),
    "time_embedding_type": ("positional", None),
    "dual_cross_attention": (False, None),
    "only_cross_attention": (False, None),
    "mid_block_only_cross_attention": (False, None),
    "cross_attention_norm": (None,),
    "attention_type": ("default", None),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None),
}
"""Keys that change a UNet's forward pass, text input or attention, with their supported values."""

BLOCKS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}

TEXT_FIXED: dict[str, tuple[Any, ...]] = {
    "use_attention_mask": (False, None),
    "model_type": ("clip_text_model", "clip", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
}

VISION_FIXED: dict[str, tuple[Any, ...]] = {"model_type": ("clip_vision_model", None), "num_channels": (3, None)}
T5_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("t5", None),
    "is_decoder": (False, None),
    "use_task_specific_params": (False, None),
}
QWEN3_FIXED: dict[str, tuple[Any, ...]] = {"model_type": ("qwen3", None)}
SEGMENTER_FIXED: dict[str, tuple[Any, ...]] = {"model_type": ("clipseg", None)}

GENERATION = frozenset(
    {
        *("add_cross_attention", "bad_words_ids", "begin_suppress_tokens", "cross_attention_hidden_size"),
        *("decoder_start_token_id", "diversity_penalty", "do_sample", "early_stopping", "encoder_no_repeat_ngram_size"),
        *("exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id"),
        *("is_decoder", "length_penalty", "max_length", "min_length", "no_repeat_ngram_size", "num_beam_groups"),
        *("num_beams", "num_return_sequences", "output_attentions", "output_scores", "prefix", "remove_invalid_values"),
        *("repetition_penalty", "return_dict_in_generate", "sep_token_id", "suppress_tokens", "task_specific_params"),
        *("temperature", "tf_legacy_loss", "tie_encoder_decoder", "tie_word_embeddings", "tokenizer_class", "top_k"),
        *("top_p", "torchscript", "typical_p", "use_bfloat16", "use_cache", "gradient_checkpointing", "dropout"),
        *("torch_dtype", "model_type", "transformers_version", "architectures", "use_return_dict"),
    }
)
"""Keys that ``transformers`` writes into every configuration: of text generation, of training, of the file itself."""


OF_FILES = ("_class_name", "_diffusers_version", "_name_or_path", "_commit_hash", "_attn_implementation_autoset")
"""Keys with an underscore that the libraries write. Others steer what code is run, such as ``_attn_implementation``."""

CODE = ("auto_map", "trust_remote_code", "custom_pipeline", "custom_pipelines")
"""Keys that name code."""


def refuse_code(file: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a key that names code or chooses it, also in a part of a configuration."""
    for key, value in config.items():
        plain = value is None or isinstance(value, str | bool)
        if key in CODE or (key.startswith("_") and not (key in OF_FILES and plain)):
            raise CheckpointError(
                f'"{file}" has {key} {_quoted(value)}, which may name code to run; no code of a model is run, so '
                "remove the key."
            )
        if isinstance(value, Mapping):
            refuse_code(file, value)


def refuse_quantised(file: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a network is stored as a quantisation library packs it, unless it is read so."""
    found = config.get("quantization_config")
    if found is not None:
        method = found.get("quant_method", "an unknown method") if isinstance(found, Mapping) else found
        instead = spelled("load(FOLDER, transformer=FILE)", "--model FOLDER --transformer FILE")
        raise CheckpointError(
            f'"{file}" is of a network that {method} has quantised, which is not supported; load the folder of full '
            f"weights, with a GGUF or float8 file as its transformer: {instead}."
        )


def check_network(file: Path, config: Mapping[str, Any], kind: Any) -> None:
    """Check that this class takes every key of a configuration. kind: a network's class in diffusers.

    Raises CheckpointError, with the key and its value, where it is of another class or has an unknown key.
    """
    refuse_code(file, config)
    refuse_quantised(file, config)
    named = str(config.get("_class_name", kind.__name__)).removeprefix("Flax")
    if named != kind.__name__:
        raise CheckpointError(f'"{file}" is of {named}, which is not supported; {kind.__name__} is needed.')
    known = inspect.signature(kind.__init__).parameters
    for key, value in config.items():
        if not key.startswith("_") and key not in known and value is not None:
            raise CheckpointError(
                f'"{file}" has {key} {_quoted(value)}, which {kind.__name__} of the installed diffusers does not know '
                "and would ignore; remove the key if it does nothing."
            )


def check_unet(file: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError, with the key and its value, where a UNet's configuration is not supported."""
    _check_values(file, config, UNET_FIXED)
    for key, kinds in BLOCKS.items():
        other = [kind for kind in config.get(key) or () if kind not in kinds]
        if other:
            raise CheckpointError(
                f'"{file}" has {key} with "{other[0]}", which is not supported; supported are {", ".join(kinds)}.'
            )


def check_text(file: Path, config: Mapping[str, Any], kind: Any) -> None:
    """Raise CheckpointError where the configuration of a CLIP text encoder is not supported. kind: CLIPTextConfig."""
    _check_keys(file, config, kind, {"use_attention_mask", "text_config", "vision_config", "logit_scale_init_value"})
    own = config.get("text_config")
    for found in (config, own) if isinstance(own, Mapping) else (config,):
        _check_values(file, found, TEXT_FIXED)
    if isinstance(own, Mapping):
        _check_keys(file, own, kind, {"use_attention_mask"})


def check_t5(file: Path, config: Mapping[str, Any], kind: Any) -> None:
    """The same for T5's encoders. kind: T5Config."""
    _check_values(file, config, T5_FIXED)
    _check_keys(file, config, kind, {"output_past", "n_positions"})  # of text generation, and without effect


def check_qwen3(file: Path, config: Mapping[str, Any], kind: Any) -> None:
    """The same for Qwen3. kind: Qwen3Config."""
    _check_values(file, config, QWEN3_FIXED)
    _check_keys(file, config, kind, {"rope_theta", "rope_scaling"})  # read as rope_parameters


def check_vision(file: Path, config: Mapping[str, Any], kind: Any, *, also: Collection[str] = ()) -> None:
    """The same for CLIP's image encoders. kind: CLIPVisionConfig. also: keys that the caller reads."""
    _check_values(file, config, VISION_FIXED)
    _check_keys(file, config, kind, also)


def check_segmenter(file: Path, config: Mapping[str, Any], kind: Any) -> None:
    """The same for CLIPSeg. kind: CLIPSegConfig, whose two towers have their own configurations."""
    _check_values(file, config, SEGMENTER_FIXED)
    _check_keys(file, config, kind, ())
    for name, tower in kind.sub_configs.items():
        if isinstance(own := config.get(name), Mapping):
            _check_keys(file, own, tower, {"projection_dim"})  # a key of CLIP, whose towers these are


def _check_keys(file: Path, config: Mapping[str, Any], kind: Any, also: Collection[str]) -> None:
    """Raise CheckpointError for a key that a configuration of ``transformers`` does not have, unless it is off."""
    refuse_code(file, config)
    refuse_quantised(file, config)
    known = {*inspect.signature(kind.__init__).parameters, *kind().to_dict(), *GENERATION, *also}
    for key, value in config.items():
        off = value is None or value is False or value == {} or value == []
        # "text_config_dict" is an older "text_config".
        newer = config.get(key.removesuffix("_dict")) if key.endswith("_config_dict") else None
        again = isinstance(newer, Mapping) and isinstance(value, Mapping) and value.items() <= newer.items()
        if not key.startswith("_") and key not in known and not off and not again:
            raise CheckpointError(
                f'"{file}" has {key} {_quoted(value)}, which {kind.__name__} of the installed transformers does not '
                "know and would ignore; remove the key if it does nothing."
            )


def _check_values(file: Path, config: Mapping[str, Any], fixed: Mapping[str, tuple[Any, ...]]) -> None:
    for key, values in fixed.items():
        found = config.get(key)
        each = found if isinstance(found, list) else [found]
        if any(value not in values for value in each):
            wanted = " or ".join(_quoted(value) for value in values if value is not None) or "null"
            raise CheckpointError(
                f'"{file}" has {key} {_quoted(found)}, which is not supported; supported is {wanted}.'
            )


def _quoted(value: Any) -> str:
    return json.dumps(value)
