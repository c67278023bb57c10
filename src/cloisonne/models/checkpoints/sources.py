"""What is refused of the names of a model's files, before any network library is imported."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from cloisonne.errors import CapabilityError, CheckpointError, OutputError, spelled
from cloisonne.scene.conditions.control import ControlKind

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
"""Endings of files that may hold code."""

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def is_hub_id(source: str) -> bool:
    """Whether a source is spelt as "owner/name"; a path with a dot or a root in front is none."""
    return _ID.fullmatch(source) is not None


def is_ip_adapter(path: Path) -> bool:
    """Whether an exemplar engine given as this path is meant as an IP-Adapter: a file, not a folder."""
    return path.suffix in (".safetensors", *PICKLES) and not path.is_dir()


def check_source(source: str | Path) -> None:
    """CheckpointError where ``load`` could not find its source, or where that is a pickle; nothing is read."""
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
    if path.suffix == ".safetensors":
        raise CheckpointError(f'There is no file "{path}"; check its path.')
    if not is_hub_id(str(source)):
        raise CheckpointError(
            f'There is no folder or file "{source}"; give "builtin", a diffusers folder, a .safetensors file or a hub '
            "id."
        )


def check_device(device: str) -> None:
    """CapabilityError for a text that names no device; whether the device is there is known with torch alone."""
    kinds = "cpu|cuda|mps|xpu|hpu|npu|mlu|mtia|xla|ipu|meta|privateuseone"
    if re.fullmatch(rf"({kinds})(:\d+)?", device) is None:
        raise CapabilityError(f'The device "{device}" cannot be used on this machine; choose "cpu".')


def check_path(path: str | Path, what: str) -> None:
    """CheckpointError where a further file or folder of a model is missing. what: such as "LoRA"."""
    if not Path(path).expanduser().exists():
        raise CheckpointError(f'There is no {what} "{path}"; check its path.')


def check_kinds(kinds: Iterable[str]) -> None:
    """CapabilityError for a kind of control that there is not."""
    for kind in kinds:
        if kind not in get_args(ControlKind):
            raise CapabilityError(
                f'There is no kind of control "{kind}"; choose one of {", ".join(get_args(ControlKind))}.'
            )


def check_conversion(source: str, out: Path, *, overwrite: bool) -> None:
    """CheckpointError, OutputError where ``convert`` could not begin."""
    if out.exists() and not overwrite:
        allowed = spelled("overwrite=True", "--overwrite")
        raise OutputError(f'"{out}" exists already; choose another name, or overwrite it with {allowed}.')
    path = Path(source).expanduser()
    if source != "builtin" and not path.exists():
        raise CheckpointError(f'There is no folder or file "{source}"; check its path.')
    if out.suffix == ".safetensors" and path.suffix not in PICKLES:
        raise CheckpointError(f'"{source}" is no pickle to be written as one file; name a folder for the output.')
