"""Output files of a run: their paths, the checks before any work, and the record that a PNG carries."""

import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from cloisonne.errors import OutputError, spelled
from cloisonne.scene.io.output import check_output
from cloisonne.scene.io.png_record import Record, self_contained
from cloisonne.scene.scene import Scene

if TYPE_CHECKING:
    from cloisonne.models.model import Model

LOSSY = (".jpg", ".jpeg")
"""File endings of lossy formats."""

PAIR = ("before", "after", "difference")
"""Names of the images that an edit writes into a folder."""
PAIR_REPORT = "report.json"

_PACKAGES = ("cloisonne", "torch", "diffusers", "transformers", "numpy", "pillow")


def is_file(path: str | Path) -> bool:
    """Whether a path names one image file, and not a folder."""
    return bool(Path(path).suffix) and not os.path.isdir(path)


def output_paths(path: str | Path, num_images: int) -> list[Path]:
    """Paths of ``num_images`` images: ``path`` itself if it names a file, else files in the folder ``path``."""
    path = Path(path)
    if is_file(path):
        if num_images != 1:
            raise OutputError(f'{num_images} images do not fit into the one file "{path}"; name a folder.')
        return [path]
    return [path / f"{index:04d}.png" for index in range(num_images)]


def check_outputs(
    path: str | Path, num_images: int, *, overwrite: bool = False, like: Sequence[Image.Image] = ()
) -> None:
    """Raise OutputError where :meth:`Result.save` could not write; call it before any work. like: the images."""
    path = Path(path)
    targets = output_paths(path, num_images)
    if targets != [path] and not os.path.exists(path):
        # The folder is made when the first image is written; here it only has to be possible.
        check_output(path.with_name(f"{path.name or 'pictures'}.png"), overwrite=True)
        return
    for target, image in zip_longest(targets, like[:num_images]):
        check_output(target, overwrite=overwrite, like=image)


def check_pair(folder: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Make the folder of an edit and return the paths of its images.

    Raises OutputError where one could not be written.
    """
    place = Path(folder)
    if place.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp") or place.is_file():
        raise OutputError(f'The output is the file "{folder}", but an edit writes three images; name a folder.')
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'The folder "{folder}" cannot be made ({error.strerror}); choose another place.') from None
    paths = [place / f"{name}.png" for name in PAIR]
    for path in paths:
        check_output(path, overwrite=overwrite)
    if (place / PAIR_REPORT).exists() and not overwrite:
        allowed = spelled("overwrite=True", "--overwrite")
        raise OutputError(
            f'The output "{place / PAIR_REPORT}" exists; choose another folder, or allow it with {allowed}.'
        )
    return paths


def make_folder(folder: Path) -> None:
    """Make an output folder whose parent exists. Raises OutputError where that fails."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f'The folder "{folder}" cannot be made ({error.strerror}); choose another place.') from error


def record_of(scene: Scene, model: "Model", folder: Path, embed: bool) -> Record:
    """The record of scene, model and environment that a PNG in a folder carries."""
    import torch

    about = model.record()
    return Record(
        scene=self_contained(scene.to_dict(complete=True), folder, embed=embed),
        model_hash=about["sha256"],
        versions={package: _version(package) for package in _PACKAGES},
        device=about["device"],
        dtype=about["dtype"],
        threads=torch.get_num_threads(),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
