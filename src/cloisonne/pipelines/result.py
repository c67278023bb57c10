"""What a run gives back: pictures, the scene they were made from, a report, and how they are written."""

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
from cloisonne.pipelines.dropped_regions import dropped_warnings
from cloisonne.scene.io.colour_space import own_space
from cloisonne.scene.io.image_ref import Picture
from cloisonne.scene.io.images import opened
from cloisonne.scene.io.infotext import infotext
from cloisonne.scene.io.output import check_output, write_picture
from cloisonne.scene.io.png_record import Record, self_contained
from cloisonne.scene.scene import Scene

if TYPE_CHECKING:
    from torch import Tensor

    from cloisonne.models.model import Model
    from cloisonne.pipelines.attention_maps.maps import AttentionMaps

REPORT_VERSION = 1
"""Of the fields of a report."""

LOSSY = (".jpg", ".jpeg")
"""Endings of files whose pixels are not those of the picture that was written."""

_PACKAGES = ("cloisonne", "torch", "diffusers", "transformers", "numpy", "pillow")


@dataclass(kw_only=True, eq=False, repr=False)
class Result:
    """The pictures of a run.

    images: empty where latents alone were asked for. latents: [n, C, H, W], where the walks ended. scene: resolved,
    with the seed of the first picture; picture i has seed + i. report: what ``--json`` prints: version, outputs (path,
    seed and sha256 of each picture, None until it is saved), scene, model, seconds, forwards, rows, dropped, warnings,
    identical_outside and max_difference_outside (None without a background and regions; with "_raw", of what the model
    made before only the regions were put back). difference_outside: how far a picture is from the background where it
    was not to change; None where nothing was to stay. attention: by region's name or phrase, where its words were
    attended to; None unless that was asked for.
    """

    images: list[Image.Image]
    latents: "Tensor"
    scene: Scene
    model: "Model"
    report: dict[str, Any]
    difference_outside: Callable[[Image.Image], int] | None = None
    attention: "AttentionMaps | None" = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was asked for and is not in the pictures, one sentence each; dropped regions among them."""
        return warnings_of(self.report)

    def __repr__(self) -> str:
        shape = self.latents.shape
        size = "{} x {}".format(*self.images[0].size) if self.images else f"latents {list(shape[1:])}"
        count = "1 picture" if len(shape) and shape[0] == 1 else f"{shape[0]} pictures"
        told = f", {len(self.warnings)} warnings" if self.warnings else ""
        return f"Result of {count} of {size}, seed {self.scene.seed}, {self.report['seconds']:.1f} s{told}"

    @property
    def image(self) -> Image.Image:
        """The first picture."""
        return self.images[0]

    def save(self, path: str | Path, *, overwrite: bool = False, embed: bool = True) -> list[Path]:
        """Write the picture to a PNG, JPEG or WebP file, or all pictures into a folder as ``0000.png`` and so on.

        A PNG carries the whole scene, with its given pictures (up to 8 MB each) unless ``embed`` is false. Raises
        OutputError, before anything is written, where a file exists (unless ``overwrite``) or cannot be written.
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
        """Of the ways to name a colour space, only a profile is held by every format."""
        own = self.images[0].info
        if path.suffix.lower() != ".png" and own.get("icc_profile") is None and (space := own_space(own)):
            self.report["warnings"].append(
                f"{path.name} cannot hold the background's colour space ({space}), so that its colours shift; write a "
                "PNG."
            )

    def _note_outside(self, path: Path, difference_outside: Callable[[Image.Image], int]) -> None:
        """What the files of this save hold is what the report has to be about."""
        lossy = path.suffix.lower() in LOSSY
        held = [opened(Picture(path=path), "output")] if lossy else self.images
        difference = max(map(difference_outside, held))
        self.report["identical_outside"] = difference == 0
        self.report["max_difference_outside"] = difference
        if difference and lossy:
            self.report["warnings"].append(
                f"{path.name} is a JPEG, which changes pixels outside the regions by up to {difference}; write a PNG."
            )


def warnings_of(report: Mapping[str, Any]) -> tuple[str, ...]:
    """The warnings of a report, each once, and one for each region that was dropped."""
    return tuple(dict.fromkeys([*report["warnings"], *dropped_warnings(report["dropped"])]))


def scene_of(scene: Scene, index: int) -> Scene:
    """The scene that draws picture ``index`` of a run as its first."""
    assert scene.seed is not None, "a resolved scene has a seed"
    return scene.replace(seed=scene.seed + index)


def output_paths(path: str | Path, num_images: int) -> list[Path]:
    """Where ``num_images`` pictures go: ``path`` itself if it is a file's name, else into the folder that it names."""
    path = Path(path)
    if path.suffix and not os.path.isdir(path):
        if num_images != 1:
            raise OutputError(f'{num_images} pictures do not fit into the one file "{path}"; name a folder.')
        return [path]
    return [path / f"{index:04d}.png" for index in range(num_images)]


def check_outputs(
    path: str | Path, num_images: int, *, overwrite: bool = False, like: Sequence[Image.Image] = ()
) -> None:
    """OutputError where :meth:`Result.save` could not write; to be asked before any work. like: the pictures."""
    path = Path(path)
    targets = output_paths(path, num_images)
    if targets != [path] and not os.path.exists(path):
        # The folder is made when the first picture is written: now it only has to be possible.
        check_output(path.with_name(f"{path.name or 'pictures'}.png"), overwrite=True)
        return
    for target, image in zip_longest(targets, like[:num_images]):
        check_output(target, overwrite=overwrite, like=image)


def make_folder(folder: Path) -> None:
    """Make an output's folder, whose parent exists; OutputError where that cannot be."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f'The folder "{folder}" cannot be made ({error.strerror}); choose another place.') from error


def record_of(scene: Scene, model: "Model", folder: Path, embed: bool) -> Record:
    """What a PNG in a folder carries of the scene, the model and the environment."""
    import torch

    made = model.record()
    return Record(
        scene=self_contained(scene.to_dict(complete=True), folder, embed=embed),
        model_hash=made["sha256"],
        versions={package: _version(package) for package in _PACKAGES},
        device=made["device"],
        dtype=made["dtype"],
        threads=torch.get_num_threads(),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
