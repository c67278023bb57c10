"""A folder of pictures with COCO annotations as training data.

An annotation with ``bbox`` (pixels x, y, width, height) is a region with its ``caption``, else its category's name.
``iscrowd`` ones are left out; so is what cannot be used, which is counted. An image's captions are its own ``caption``
(a text or several) and the ``caption`` of annotations of it that have no ``bbox``, as in COCO's captions files.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from cloisonne.errors import TrainingError
from cloisonne.scene.io.image_ref import Picture
from cloisonne.scene.io.importers import coco_id
from cloisonne.scene.io.source_image import Source
from cloisonne.scene.shapes.geometry import Box, area, clipped
from cloisonne.scene.values import shown
from cloisonne.train.datasets.coco_files import Coco, read_coco
from cloisonne.train.datasets.shown import Shown

_STRUCTURE = re.compile(r"<bin\d+>|<\|(start|end)oftext\|>")


@dataclass(frozen=True)
class _Row:
    file: Path
    size: tuple[float, float] | None
    """Width and height that the boxes are in."""
    captions: tuple[str, ...]
    regions: tuple[tuple[Box, str], ...]


class CocoRows:
    """The images that have any words, in the order of the annotations' images; one row each.

    wordless: boxes need no words, and images none either if they have a box. strict: refuse an annotation that cannot
    be used, such as one without area; else it is left out. warnings: how many were, and why the first one was.
    Everything but the pictures' pixels is read and checked here. Nothing of it ever changes.
    """

    def __init__(self, folder: Path, *, wordless: bool = False, strict: bool = False) -> None:
        coco = read_coco(folder)
        self.digest = coco.digest
        captions = {key: _texts(image.get("caption"), image.get("id")) for key, image in coco.images.items()}
        regions: dict[str, list[tuple[Box, str]]] = {key: [] for key in coco.images}
        skipped: list[str] = []
        for annotation in coco.annotations:
            try:
                _add(annotation, coco, captions, regions, wordless=wordless)
            except TrainingError as error:
                if strict:
                    raise
                skipped.append(str(error))
        count = f'{len(skipped)} of {len(coco.annotations)} annotations in "{folder}" were left out'
        self.warnings: tuple[str, ...] = (f"{count}, the first because: {skipped[0]}",) if skipped else ()
        self._rows = tuple(
            _Row(_file(folder, image), _size(image), tuple(captions[key]), tuple(regions[key]))
            for key, image in coco.images.items()
            if captions[key] or regions[key]
        )
        if not self._rows:
            raise TrainingError(
                f'No image in "{folder}" has a caption, and no box has one or a category; say what the pictures show.'
                + "".join(f" {warning}" for warning in self.warnings)
            )

    def __len__(self) -> int:
        return len(self._rows)

    def has_box(self, index: int, smallest: float, largest: float) -> bool:
        """Whether picture ``index`` has a box of such a share of its area."""
        return any(smallest <= area(box) <= largest for box, _ in self._rows[index].regions)

    def show(self, index: int, rng: np.random.Generator) -> Shown:
        """Picture ``index``, upright, with one of its captions."""
        row = self._rows[index]
        rgb = Source.load(Picture(path=row.file), "training picture").rgb
        height, width = rgb.shape[:2]
        if row.size and abs(math.log(row.size[0] / row.size[1] * height / width)) > 0.02:
            raise TrainingError(
                f'"{row.file}" has {width} x {height} pixels and is annotated as {row.size[0]:g} x {row.size[1]:g}; '
                "annotate it as it is seen, upright."
            )
        caption = row.captions[int(rng.integers(len(row.captions)))] if row.captions else ""
        return Shown(rgb, caption, row.regions)


def _add(
    annotation: Mapping[str, Any],
    coco: Coco,
    captions: dict[str, list[str]],
    regions: dict[str, list[tuple[Box, str]]],
    *,
    wordless: bool,
) -> None:
    """Add an annotation to its image's captions or regions. Raises TrainingError where it is neither."""
    given = annotation.get("image_id")
    key = coco_id(given)
    if not isinstance(given, int | float | str) or key not in coco.images:
        raise TrainingError(
            f"An annotation is of image {shown(given)}, which is not listed; add it to images, or remove it."
        )
    if not annotation.get("bbox"):
        captions[key] += _texts(annotation.get("caption"), given)
    elif not annotation.get("iscrowd"):
        words = _texts(annotation.get("caption") or coco.categories.get(coco_id(annotation.get("category_id"))), given)
        if not (words or wordless):
            raise TrainingError(f"A bbox of image {shown(given)} has neither a caption nor a category; give it one.")
        box = _box(annotation["bbox"], coco.images[key])
        regions[key] += [(box, text) for text in ([""] if wordless else words)]


def _texts(value: Any, key: Any) -> list[str]:
    """The texts in a caption, which may be one, several or none."""
    texts = value if isinstance(value, list) else [value or ""]
    for text in texts:
        if not isinstance(text, str):
            raise TrainingError(f"Image {shown(key)} has the caption {shown(text)}; give a text.")
        if found := _STRUCTURE.search(text):
            raise TrainingError(
                f"A text of image {shown(key)} holds {found.group()}, which sequences are built of; leave it out."
            )
    return [text.strip() for text in texts if text.strip()]


def _size(image: Mapping[str, Any]) -> tuple[float, float] | None:
    size = (image.get("width"), image.get("height"))
    if size == (None, None):
        return None
    if not all(isinstance(side, int | float) and 1 <= side < 10**6 for side in size):
        raise TrainingError(f"Image {shown(image.get('id'))} has the size {shown(size)}; give its width and height.")
    return size  # type: ignore[return-value]


def _box(bbox: Any, image: Mapping[str, Any]) -> Box:
    """A ``bbox`` in fractions, clipped to its image. Raises TrainingError where it has no area there."""
    try:
        x, y, w, h = (float(value) for value in bbox)
        finite = all(map(math.isfinite, (x, y, w, h)))
    except (TypeError, ValueError):
        x = y = w = h = 0.0
        finite = False
    size = _size(image)
    if not finite or size is None:
        raise TrainingError(
            f"Image {shown(image.get('id'))} has the bbox {shown(bbox)} and the size {shown(size)}; "
            "give x, y, width, height in pixels, and the image's width and height."
        )
    box = clipped((x / size[0], y / size[1], (x + w) / size[0], (y + h) / size[1]))
    if area(box) <= 0:
        raise TrainingError(
            f"Image {shown(image.get('id'))} has the bbox {shown(bbox)}, of which nothing lies inside it; remove it."
        )
    return box


def _file(folder: Path, image: Mapping[str, Any]) -> Path:
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise TrainingError(f"Image {shown(image.get('id'))} has the file_name {shown(name)}; give its picture's.")
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    if any(kind.is_absolute() or ".." in kind.parts or kind.drive for kind in kinds):
        raise TrainingError(f'The file_name {shown(name)} points outside of "{folder}"; put the picture into it.')
    if not (folder / name).is_file():
        raise TrainingError(f'There is no picture {shown(name)} in "{folder}"; put it there, or remove its image.')
    return folder / name
