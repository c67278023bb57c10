"""The result of a run: images, the resolved scene, a report, and how they are written."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from cloisonne.pipelines.output.files import (
    LOSSY,
    PAIR,
    PAIR_REPORT,
    check_outputs,
    check_pair,
    is_file,
    make_folder,
    output_paths,
    record_of,
)
from cloisonne.pipelines.output.report import warnings_of
from cloisonne.scene.io.colour_space import own_space
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.images import opened, orientation, turned_upright
from cloisonne.scene.io.infotext import infotext
from cloisonne.scene.io.output import write_picture
from cloisonne.scene.io.overlay import draw_regions, figure, png, regions_table, table
from cloisonne.scene.scene import Scene

if TYPE_CHECKING:
    from torch import Tensor

    from cloisonne.core.run import Run
    from cloisonne.models.model import Model
    from cloisonne.models.text.learned_concept import Concept
    from cloisonne.pipelines.attention_maps.maps import AttentionMaps


@dataclass(kw_only=True, eq=False, repr=False)
class Result:
    """The images of a run, of every function.

    Attributes:
        images: PIL images; empty with output_type "latent". Of an edit: the image after.
        latents: Final latents [n, C, H, W] of ``images``.
        scene: Resolved scene with the seed of the first image; image i has seed + i.
        report: What ``--json`` prints: version, outputs (path, seed and sha256 of each image; path and sha256 are None
            until it is saved), scene, model, seconds, forwards, rows, dropped, warnings, identical_outside and
            max_difference_outside (None without a background and regions). ``max_difference_outside_raw`` is measured
            before the regions are composited into the background.
        run: Counts, and the attention maps that readers recorded: ``run.maps[reader].mean()``.
        named: Other images of the run, for the first of ``images``. With a background: "source", the given image, and
            "raw", the decoded image before anything of the source is pasted back. With a concept: "reference". Of an
            edit: "before", "after", "difference" (absolute, RGB) and "raw".
        difference_outside: Largest difference of an image from the given one outside of the regions; None where
            nothing has to stay unchanged.
        attention: Cross-attention maps by region name or phrase; None unless requested.
    """

    images: list[Image.Image]
    latents: "Tensor"
    scene: Scene
    model: "Model"
    report: dict[str, Any]
    run: "Run"
    named: Mapping[str, Image.Image] = field(default_factory=dict[str, Image.Image])
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
        named = f", named {', '.join(self.named)}" if self.named else ""
        warned = f", {len(self.warnings)} warnings" if self.warnings else ""
        return f"Result of {count} of {size}, seed {self.scene.seed}, {self.report['seconds']:.1f} s{named}{warned}"

    def _repr_png_(self) -> bytes | None:
        """The first image, in a notebook."""
        return png(self.images[0]) if self.images else None

    def _repr_html_(self) -> str:
        """The first image, the same with its regions, and a table, in a notebook."""
        upright = [turned_upright(image, orientation(image)) for image in self.images[:1]]
        drawn = [draw_regions(image, self.scene.regions) for image in upright if self.scene.regions]
        facts = [
            ("seed", self.scene.seed),
            ("seconds", self.report["seconds"]),
            *(("warning", w) for w in self.warnings),
        ]
        return figure([*upright, *drawn], table(facts), regions_table(self.scene.regions))

    @property
    def image(self) -> Image.Image:
        """The first image."""
        return self.images[0]

    @property
    def concept(self) -> "Concept | None":
        """The learned concept of the scene, which can be saved and reused; None where there is none."""
        from cloisonne.models.text.learned_concept import Concept

        region = self.scene.translated
        file = None if region is None or region.concept is None else region.concept.file
        return None if file is None else Concept.read(file.read())

    def save(self, path: str | Path, *, overwrite: bool = False, embed: bool = True) -> list[Path]:
        """Write one image to a PNG, JPEG or WebP file, or all images into a folder as ``0000.png`` and so on.

        An edit writes ``before.png``, ``after.png``, ``difference.png`` and ``report.json`` into a folder. A PNG
        carries the whole scene, with its input images (up to 8 MB each) unless ``embed`` is false.

        Args:
            path: A file or a folder.
            overwrite: Whether existing files are replaced.
            embed: Whether input images are stored in the PNG; else their paths and hashes.

        Returns:
            The paths of the written images.

        Raises:
            OutputError: A file exists or cannot be written. Raised before anything is written.
        """
        if self._is_pair and not is_file(path):
            return self._save_pair(path, overwrite=overwrite, embed=embed)
        check_outputs(path, len(self.images), overwrite=overwrite, like=self.images)
        paths = output_paths(path, len(self.images))
        for index, (image, target) in enumerate(zip(self.images, paths, strict=True)):
            make_folder(target.parent)
            self._write(image, target, PAIR.index("after") if self._is_pair else index, overwrite, embed)
        if paths:
            self._note_space(paths[0])
        if self.difference_outside is not None and paths:
            self._note_outside(paths[0], self.difference_outside)
        return paths

    @property
    def _is_pair(self) -> bool:
        """Whether this is the result of an edit, whose images before and after belong together."""
        return all(name in self.named for name in PAIR)

    def _save_pair(self, folder: str | Path, *, overwrite: bool, embed: bool) -> list[Path]:
        paths = check_pair(folder, overwrite=overwrite)
        for place, (name, path) in enumerate(zip(PAIR, paths, strict=True)):
            self._write(self.named[name], path, place, overwrite, embed, recorded=name == "after")
        report = json.dumps(self.report, indent=1) + "\n"
        (Path(folder) / PAIR_REPORT).write_text(report, encoding="utf-8")
        return paths

    def _write(
        self, image: Image.Image, path: Path, place: int, overwrite: bool, embed: bool, *, recorded: bool = True
    ) -> None:
        """Write an image and complete its entry, at index ``place``, of the report's outputs."""
        scene = self.scene if self._is_pair else scene_of(self.scene, place)
        record = record_of(scene, self.model, path.parent, embed) if recorded else None
        parameters = None if record is None or self._is_pair else infotext(scene, record)
        write_picture(image, path, record=record, parameters=parameters, overwrite=overwrite)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.report["outputs"][place] |= {"path": str(path), "sha256": sha256}

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


def scene_of(scene: Scene, index: int) -> Scene:
    """The scene that generates image ``index`` of a run as its first."""
    assert scene.seed is not None, "a resolved scene has a seed"
    return scene.replace(seed=scene.seed + index)
