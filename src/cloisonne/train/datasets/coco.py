"""A folder of images with COCO annotations as training data.

An annotation with ``bbox`` (x, y, width, height in pixels) is a region; its text is its ``caption``, else the name of
its category. ``iscrowd`` annotations are skipped; unusable annotations are skipped and counted. The captions of an
image are its own ``caption`` (a string or a list) and the ``caption`` of its annotations without ``bbox``, as in COCO's
captions files.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from cloisonne.errors import TrainingError
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.importers import coco_id
from cloisonne.scene.io.source_image import Source
from cloisonne.scene.shapes.geometry import Box, area, clipped
from cloisonne.scene.values import brief
from cloisonne.train.datasets.coco_files import Coco, read_coco
from cloisonne.train.datasets.training_image import TrainingImage

_STRUCTURE = re.compile(r"<bin\d+>|<\|(start|end)oftext\|>")


@dataclass(frozen=True)
class _Entry:
    file: Path
    size: tuple[float, float] | None
    """Annotated width and height in pixels; None if not given."""
    captions: tuple[str, ...]
    regions: tuple[tuple[Box, str], ...]


class CocoDataset:
    """The images that have a caption or a region, in the order of ``images`` in the annotations.

    Everything except the pixels is read and checked on construction.

    Args:
        folder: Folder of images and annotations.
        image_only: Boxes need no text, and an image with a box needs no caption.
        strict: Raise for an unusable annotation, such as a box without area, instead of skipping it.

    Attributes:
        digest: SHA-256 of the annotations.
        warnings: How many annotations were skipped, and the reason for the first one.

    Raises:
        TrainingError: The folder, its annotations or all of its images cannot be used.
    """

    def __init__(self, folder: Path, *, image_only: bool = False, strict: bool = False) -> None:
        coco = read_coco(folder)
        self.digest = coco.digest
        captions = {key: _texts(image.get("caption"), image.get("id")) for key, image in coco.images.items()}
        regions: dict[str, list[tuple[Box, str]]] = {key: [] for key in coco.images}
        reasons: list[str] = []
        for annotation in coco.annotations:
            try:
                _add(annotation, coco, captions, regions, image_only=image_only)
            except TrainingError as error:
                if strict:
                    raise
                reasons.append(str(error))
        skipped = f'{len(reasons)} of {len(coco.annotations)} annotations in "{folder}" were skipped'
        self.warnings: tuple[str, ...] = (f"{skipped}, the first because: {reasons[0]}",) if reasons else ()
        self._entries = tuple(
            _Entry(_file(folder, image), _size(image), tuple(captions[key]), tuple(regions[key]))
            for key, image in coco.images.items()
            if captions[key] or regions[key]
        )
        if not self._entries:
            raise TrainingError(
                f'No image in "{folder}" has a caption, and no box has a caption or category; add some.'
                + "".join(f" {warning}" for warning in self.warnings)
            )

    def __len__(self) -> int:
        return len(self._entries)

    def has_box(self, index: int, smallest: float, largest: float) -> bool:
        """Whether image ``index`` has a box whose area fraction is between ``smallest`` and ``largest``."""
        return any(smallest <= area(box) <= largest for box, _ in self._entries[index].regions)

    def load(self, index: int, rng: np.random.Generator) -> TrainingImage:
        """Load image ``index``, upright, with a random one of its captions.

        Raises TrainingError if its aspect ratio differs from the annotated size, ImageError if it cannot be read.
        """
        entry = self._entries[index]
        rgb = Source.load(ImageRef(path=entry.file), "training image").rgb
        height, width = rgb.shape[:2]
        if entry.size and abs(math.log(entry.size[0] / entry.size[1] * height / width)) > 0.02:
            raise TrainingError(
                f'"{entry.file}" has {width} x {height} pixels and is annotated as '
                f"{entry.size[0]:g} x {entry.size[1]:g}; "
                "annotate the upright image."
            )
        caption = entry.captions[int(rng.integers(len(entry.captions)))] if entry.captions else ""
        return TrainingImage(rgb, caption, entry.regions)


def _add(
    annotation: Mapping[str, Any],
    coco: Coco,
    captions: dict[str, list[str]],
    regions: dict[str, list[tuple[Box, str]]],
    *,
    image_only: bool,
) -> None:
    """Add an annotation to the captions or regions of its image. Raises TrainingError if it is unusable."""
    given = annotation.get("image_id")
    key = coco_id(given)
    if not isinstance(given, int | float | str) or key not in coco.images:
        raise TrainingError(
            f"An annotation refers to image {brief(given)}, which is not listed; "
            "add the image, or remove the annotation."
        )
    if not annotation.get("bbox"):
        captions[key] += _texts(annotation.get("caption"), given)
    elif not annotation.get("iscrowd"):
        texts = _texts(annotation.get("caption") or coco.categories.get(coco_id(annotation.get("category_id"))), given)
        if not (texts or image_only):
            raise TrainingError(f"A bbox of image {brief(given)} has neither a caption nor a category; add one.")
        box = _box(annotation["bbox"], coco.images[key])
        regions[key] += [(box, text) for text in ([""] if image_only else texts)]


def _texts(value: Any, key: Any) -> list[str]:
    """The non-empty texts of a caption, which may be a string, a list or None."""
    texts = value if isinstance(value, list) else [value or ""]
    for text in texts:
        if not isinstance(text, str):
            raise TrainingError(f"Image {brief(key)} has the caption {brief(text)}; give a text.")
        if found := _STRUCTURE.search(text):
            raise TrainingError(f"A text of image {brief(key)} contains the reserved token {found.group()}; remove it.")
    return [text.strip() for text in texts if text.strip()]


def _size(image: Mapping[str, Any]) -> tuple[float, float] | None:
    size = (image.get("width"), image.get("height"))
    if size == (None, None):
        return None
    if not all(isinstance(side, int | float) and 1 <= side < 10**6 for side in size):
        raise TrainingError(f"Image {brief(image.get('id'))} has the size {brief(size)}; give its width and height.")
    return size  # type: ignore[return-value]


def _box(bbox: Any, image: Mapping[str, Any]) -> Box:
    """A ``bbox`` as fractions of its image, clipped. Raises TrainingError if no area is left."""
    try:
        x, y, w, h = (float(value) for value in bbox)
        finite = all(map(math.isfinite, (x, y, w, h)))
    except (TypeError, ValueError):
        x = y = w = h = 0.0
        finite = False
    size = _size(image)
    if not finite or size is None:
        raise TrainingError(
            f"Image {brief(image.get('id'))} has the bbox {brief(bbox)} and the size {brief(size)}; "
            "give x, y, width, height in pixels, and the image's width and height."
        )
    box = clipped((x / size[0], y / size[1], (x + w) / size[0], (y + h) / size[1]))
    if area(box) <= 0:
        raise TrainingError(
            f"Image {brief(image.get('id'))} has the bbox {brief(bbox)}, but nothing lies inside the image; remove it."
        )
    return box


def _file(folder: Path, image: Mapping[str, Any]) -> Path:
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise TrainingError(
            f"Image {brief(image.get('id'))} has the file_name {brief(name)}; give the path of its file."
        )
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    if any(kind.is_absolute() or ".." in kind.parts or kind.drive for kind in kinds):
        raise TrainingError(f'The file_name {brief(name)} points outside of "{folder}"; move the file into the folder.')
    if not (folder / name).is_file():
        raise TrainingError(f'There is no file {brief(name)} in "{folder}"; add it, or remove its image.')
    return folder / name
