"""The result of a run: images, the resolved scene, a report, and how they are written."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from cloisonne.errors import OutputError
from cloisonne.scene.io.colour_space import own_space
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.images import opened
from cloisonne.scene.io.infotext import infotext
from cloisonne.scene.io.output import check_output, write_picture
from cloisonne.scene.io.png_record import Record, self_contained
from cloisonne.scene.scene import Scene

if TYPE_CHECKING:
    from torch import Tensor

    from cloisonne.core.run import Run
    from cloisonne.models.model import Model
    from cloisonne.pipelines.attention_maps.maps import AttentionMaps

REPORT_VERSION = 1
"""Version of the report's fields."""

LOSSY = (".jpg", ".jpeg")
"""File endings of lossy formats."""

_PACKAGES = ("cloisonne", "torch", "diffusers", "transformers", "numpy", "pillow")


@dataclass(kw_only=True, eq=False, repr=False)
class Result:
    """The images of a run.

    Attributes:
        images: PIL images; empty with output_type "latent".
        latents: Final latents [n, C, H, W].
        scene: Resolved scene with the seed of the first image; image i has seed + i.
        report: What ``--json`` prints: version, outputs (path, seed and sha256 of each image; path and sha256 are None
            until it is saved), scene, model, seconds, forwards, rows, dropped, warnings, identical_outside and
            max_difference_outside (None without a background and regions). ``max_difference_outside_raw`` is measured
            before the regions are composited into the background.
        run: Counts, and the attention maps that readers recorded: ``run.maps[reader].mean()``.
        difference_outside: Largest difference of an image from the background outside of the regions; None where
            nothing has to stay unchanged.
        attention: Cross-attention maps by region name or phrase; None unless requested.
    """

    images: list[Image.Image]
    latents: "Tensor"
    scene: Scene
    model: "Model"
    report: dict[str, Any]
    run: "Run"
    difference_outside: Callable[[Image.Image], int] | None = None
    attention: "AttentionMaps | None" = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Requests that the images do not honour, one sentence each; includes dropped regions."""
        return warnings_of(self.report)

    def __repr__(self) -> str:
        shape = self.latents.shape
        size = "{} x {}".format(*self.images[0].size) if self.images else f"latents {list(shape[1:])}"
        count = "1 image" if len(shape) and shape[0] == 1 else f"{shape[0]} images"
        warned = f", {len(self.warnings)} warnings" if self.warnings else ""
        return f"Result of {count} of {size}, seed {self.scene.seed}, {self.report['seconds']:.1f} s{warned}"

    @property
    def image(self) -> Image.Image:
        """The first image."""
        return self.images[0]

    def save(self, path: str | Path, *, overwrite: bool = False, embed: bool = True) -> list[Path]:
        """Write one image to a PNG, JPEG or WebP file, or all images into a folder as ``0000.png`` and so on.

        A PNG carries the whole scene, with its input images (up to 8 MB each) unless ``embed`` is false. Returns the
        written paths. Raises OutputError, before anything is written, where a file exists (unless ``overwrite``) or
        cannot be written.
        """
        check_outputs(path, len(self.images), overwrite=overwrite, like=self.images)
        paths = output_paths(path, len(self.images))
        for index, (image, target) in enumerate(zip(self.images, paths, strict=True)):
            make_folder(target.parent)
            scene = scene_of(self.scene, index)
            record = record_of(scene, self.model, target.parent, embed)
            write_picture(image, target, record=record, parameters=infotext(scene, record), overwrite=overwrite)
            sha256 = hashlib.sha256(target.read_bytes()).hexdigest()
            self.report["outputs"][index] |= {"path": str(target), "sha256": sha256}
        if paths:
            self._note_space(paths[0])
        if self.difference_outside is not None and paths:
            self._note_outside(paths[0], self.difference_outside)
        return paths

    def _note_space(self, path: Path) -> None:
        """Warn where the format cannot store the colour space: only PNG holds one that is no ICC profile."""
        own = self.images[0].info
        if path.suffix.lower() != ".png" and own.get("icc_profile") is None and (space := own_space(own)):
            self.report["warnings"].append(
                f"{path.name} cannot store the background's colour space ({space}), so its colours shift; write a PNG."
            )

    def _note_outside(self, path: Path, difference_outside: Callable[[Image.Image], int]) -> None:
        """Update the report's differences for the written files."""
        lossy = path.suffix.lower() in LOSSY
        written = [opened(ImageRef(path=path), "output")] if lossy else self.images
        difference = max(map(difference_outside, written))
        self.report["identical_outside"] = difference == 0
        self.report["max_difference_outside"] = difference
        if difference and lossy:
            self.report["warnings"].append(
                f"{path.name} is a JPEG, which changes pixels outside the regions by up to {difference}; write a PNG."
            )


def dropped_warnings(names: Sequence[str]) -> tuple[str, ...]:
    """One warning for each region that is left out, because it does not fit the model's text."""
    advice = "shorten the phrases, or give it a higher priority"
    return tuple(f'Region "{name}" is left out, because it does not fit the model\'s text; {advice}.' for name in names)


def warnings_of(report: Mapping[str, Any]) -> tuple[str, ...]:
    """The warnings of a report, each once, and one for each region that was dropped."""
    return tuple(dict.fromkeys([*report["warnings"], *dropped_warnings(report["dropped"])]))


def scene_of(scene: Scene, index: int) -> Scene:
    """The scene that generates image ``index`` of a run as its first."""
    assert scene.seed is not None, "a resolved scene has a seed"
    return scene.replace(seed=scene.seed + index)


def output_paths(path: str | Path, num_images: int) -> list[Path]:
    """Paths of ``num_images`` images: ``path`` itself if it names a file, else files in the folder ``path``."""
    path = Path(path)
    if path.suffix and not os.path.isdir(path):
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
