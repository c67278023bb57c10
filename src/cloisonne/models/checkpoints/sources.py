"""Checks of a model's paths and names, made before any network library is imported."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from cloisonne.errors import CapabilityError, CheckpointError, OutputError, spelled
from cloisonne.scene.conditions.control import ControlKind

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
"""Suffixes of files that may hold code."""

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def is_hub_id(source: str) -> bool:
    """Whether a source has the form "owner/name"; a path that begins with a dot or a slash has not."""
    return _ID.fullmatch(source) is not None


def is_ip_adapter(path: Path) -> bool:
    """Whether an exemplar model's path means an IP-Adapter: a file, not a folder."""
    return path.suffix in (".safetensors", *PICKLES) and not path.is_dir()


def check_source(source: str | Path) -> None:
    """Raise CheckpointError where ``load`` could not find its source, or where it is a pickle. Reads no file."""
    path = Path(source).expanduser()
    if source == "builtin" or path.is_dir():
        return
    if path.suffix in PICKLES:
        raise CheckpointError(
            f'"{source}" is a pickle, which can run code when it is read; convert it once with '
            f'"cloisonne convert {source} FOLDER" and load the folder.'
        )
    if path.is_file():
        return
    if path.suffix in (".safetensors", ".gguf"):
        raise CheckpointError(f'There is no file "{path}"; check its path.')
    if not is_hub_id(str(source)):
        raise CheckpointError(
            f'There is no folder or file "{source}"; give "builtin", a diffusers folder, a .safetensors or .gguf file, '
            "or a hub id."
        )


def check_device(device: str) -> None:
    """Raise CapabilityError for a text that names no device. Whether the device exists is not checked."""
    kinds = "cpu|cuda|mps|xpu|hpu|npu|mlu|mtia|xla|ipu|meta|privateuseone"
    if re.fullmatch(rf"({kinds})(:\d+)?", device) is None:
        raise CapabilityError(f'The device "{device}" cannot be used on this machine; choose "cpu".')


def check_path(path: str | Path, what: str) -> None:
    """Raise CheckpointError where a file or folder does not exist. what: its kind, such as "LoRA"."""
    if not Path(path).expanduser().exists():
        raise CheckpointError(f'There is no {what} "{path}"; check its path.')


def check_kinds(kinds: Iterable[str]) -> None:
    """Raise CapabilityError for an unknown kind of control."""
    for kind in kinds:
        if kind not in get_args(ControlKind):
            raise CapabilityError(
                f'There is no kind of control "{kind}"; choose one of {", ".join(get_args(ControlKind))}.'
            )


def check_conversion(source: str, out: Path, *, overwrite: bool) -> None:
    """Raise CheckpointError or OutputError where ``convert`` cannot read its source or may not write its output."""
    if out.exists() and not overwrite:
        allowed = spelled("overwrite=True", "--overwrite")
        raise OutputError(f'"{out}" exists already; choose another name, or overwrite it with {allowed}.')
    path = Path(source).expanduser()
    if source != "builtin" and not path.exists():
        raise CheckpointError(f'There is no folder or file "{source}"; check its path.')
    if out.suffix == ".safetensors" and path.suffix not in PICKLES:
        raise CheckpointError(f'"{source}" is no pickle, so it is not written as one file; give a folder as output.')
