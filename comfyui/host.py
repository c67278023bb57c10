"""What the nodes use of ComfyUI: its progress bar, its interrupt, its folders and its device."""

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import comfy.model_management
import comfy.utils
import folder_paths
import torch

from cloisonne import CloisonneWarning, Progress

BUILTIN = "builtin"
PREVIEW = 512
"""Pixels of the longer side of a preview."""
Node = TypeVar("Node", bound=Callable[..., Any])


def with_gradients(execute: Node) -> Node:
    """Run a node outside of inference mode, in which ComfyUI runs all nodes: some losses need gradients."""

    @functools.wraps(execute)
    def run(*args: Any, **given: Any) -> Any:
        with torch.inference_mode(False):
            return execute(*args, **given)

    return run  # type: ignore[return-value]


class Watch:
    """``on_step`` of a run: moves the node's progress bar with a preview, and ends the run at an interrupt."""

    def __init__(self, runs: int = 1) -> None:
        self._runs = runs
        self._run = 0
        self._bar = comfy.utils.ProgressBar(1)

    def __call__(self, event: Progress) -> None:
        """Report a step. Raises ComfyUI's own exception after an interrupt."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        done, total = event.step, event.total
        if event.stage == "sampling":
            done, total = event.image * event.total + event.step, event.num_images * event.total
        picture = event.preview()
        preview = None if picture is None else ("JPEG", picture, PREVIEW)
        self._bar.update_absolute(self._run * total + done, self._runs * total, preview)

    def next_run(self) -> None:
        """The steps that follow are those of the next of ``runs`` calls."""
        self._run += 1


@contextmanager
def logged_warnings() -> Iterator[None]:
    """In this context, what of a scene is not honoured goes to ComfyUI's log; results have the same sentences."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", CloisonneWarning)
        yield
    for one in found:
        if issubclass(one.category, CloisonneWarning):
            logging.warning("cloisonne: %s", one.message)
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def device() -> str:
    """The device that ComfyUI computes on."""
    return str(comfy.model_management.get_torch_device())


def model_names() -> list[str]:
    """The built-in family, the pipeline folders in ComfyUI's "diffusers" folders, and its checkpoints."""
    files = [name for name in folder_paths.get_filename_list("checkpoints") if name.endswith(".safetensors")]
    return [BUILTIN, *_folders(), *files]


def model_source(name: str) -> str:
    """The folder or file of one of :func:`model_names`. Raises ValueError for any other name."""
    if name == BUILTIN:
        return name
    if name in _folders():
        return str(_folders()[name])
    return file_of("checkpoints", name)


def file_names(kind: str) -> list[str]:
    """The safetensors files of one of ComfyUI's folders, such as "loras"."""
    return [name for name in folder_paths.get_filename_list(kind) if name.endswith(".safetensors")]


def file_of(kind: str, name: str) -> str:
    """The path of one of :func:`file_names`. Raises ValueError for any other name."""
    if name not in file_names(kind):
        raise ValueError(f'There is no file "{name}" in the folder {kind}; choose one of the list.')
    return folder_paths.get_full_path_or_raise(kind, name)


def _folders() -> dict[str, Path]:
    """By name relative to their root: the folders with a model_index.json."""
    found = {}
    for root in map(Path, folder_paths.get_folder_paths("diffusers")):
        for index in sorted(root.glob("**/model_index.json")):
            found.setdefault(index.parent.relative_to(root).as_posix(), index.parent)
    return found
