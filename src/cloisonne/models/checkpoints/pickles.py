"""Tensors of pickled files, read by torch's restricted reader, which runs no code."""

import pickle  # noqa: TID251 only for the name of its error
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.sources import PICKLES as PICKLES
from cloisonne.models.checkpoints.tensor_file import reason


def read_pickle(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a pickled checkpoint with ``weights_only=True`` and unwrap them.

    Raises CheckpointError where the file is missing or damaged, or needs code to be read.
    """
    if not file.is_file():
        raise CheckpointError(f'There is no file "{file}"; check its path.')
    try:
        with warnings.catch_warnings():
            # torch warns of pickle protocols that it does not write.
            warnings.simplefilter("ignore")
            found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), "")
        raise CheckpointError(
            f'"{file}" needs code to be read, which is never run ({wanted[:200] or "unsupported pickle"}); '
            "ask for it as safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f'"{file}" cannot be read ({reason(error)}); download it again.') from error
    for wrapper in ("state_dict", "model_state_dict", "module"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    found = _flat(found)
    tensors = {str(k): v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise CheckpointError(f'"{file}" holds no tensors by name; give a checkpoint.')
    return tensors


def _flat(found: Any) -> Any:
    """Flatten nested tables: an IP-Adapter's two parts to "part.name", an AUTOMATIC1111 embedding to its word."""
    if isinstance(found, Mapping) and isinstance(found.get("string_to_param"), Mapping):
        vectors, word = found["string_to_param"], found.get("name")
        return {str(word) if word and len(vectors) == 1 else str(key): tensor for key, tensor in vectors.items()}
    parts = ("image_proj", "ip_adapter")
    if not isinstance(found, Mapping) or not all(isinstance(found.get(part), Mapping) for part in parts):
        return found
    return {f"{part}.{name}": tensor for part in parts for name, tensor in found[part].items()}
