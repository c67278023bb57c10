"""Check a network's ``config.json``: its class must take each key, and each value must be supported."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloisonne.errors import CheckpointError

UNET_FIXED: dict[str, tuple[Any, ...]] = {
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "class_embeddings_concat": (False, None),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "addition_embed_type": (None, "text_time"),
    "time_cond_proj_dim": (None,),
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


def check_network(file: Path, config: Mapping[str, Any], kind: Any) -> None:
    """Check that this class takes every key of a configuration. kind: a network's class in diffusers.

    Raises CheckpointError, with the key and its value, where it is of another class or has an unknown key.
    """
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


def check_text(file: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError where the configuration of a CLIP text encoder is not supported."""
    _check_values(file, config, TEXT_FIXED)


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
