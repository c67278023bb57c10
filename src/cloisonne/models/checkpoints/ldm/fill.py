"""Load the tensors of a file into a network, exactly."""

from pathlib import Path
from typing import Any

from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.ldm.shapes import Tensors


def filled(module: Any, tensors: Tensors, given: int, source: Path, prefix: str) -> Any:
    """Load exactly these tensors into the module; given: how many the file holds for it.

    Raises CheckpointError where a tensor is missing, unknown or misshapen.
    """
    wanted: dict[str, Tensor] = module.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f'"{source}" lacks the tensor "{name}" (under {prefix}); download it again.')
        if name not in wanted or len(tensors) != given:
            what = f'"{name}"' if name not in wanted else f"{abs(given - len(tensors))} tensors"
            raise CheckpointError(
                f'"{source}" holds {what} under {prefix} that its model family does not have; load another file.'
            )
        if tensors[name].shape != wanted[name].shape:
            shapes = f"{list(tensors[name].shape)}, not {list(wanted[name].shape)}"
            raise CheckpointError(f'"{source}" has "{name}" (under {prefix}) of shape {shapes}; download it again.')
    module.load_state_dict(dict(tensors), assign=True)
    return module


def within(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
