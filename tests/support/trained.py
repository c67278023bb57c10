"""What runs of a training left, compared."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

Run = Callable[..., tuple[int, str, str]]
"""A command run in this process: (exit code, stdout, stderr)."""


def quiet(line: str) -> None:
    """Report nothing."""


def weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of what a run wrote, but not of its checkpoints."""
    files = [file for file in sorted(folder.rglob("*.safetensors")) if "checkpoint-" not in str(file.parent)]
    assert files
    return {f"{file.relative_to(folder)} {name}": t for file in files for name, t in load_file(file).items()}


def assert_equal(one: Path, other: Path) -> None:
    """Two runs wrote the same bits."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def assert_close(one: Path, other: Path) -> None:
    """Two runs differ by rounding."""
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, values in first.items():
        torch.testing.assert_close(values, second[name], atol=1e-6, rtol=0, msg=name)
