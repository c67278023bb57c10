"""Layouts from COCO's annotations: ``instances_*.json`` and ``captions_*.json`` (Lin et al. 2014, arXiv 1405.0312).

A canvas has the proportions of the model's native size, not those of a photograph: boxes are fractions of both.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cloisonne.errors import SceneError
from cloisonne.eval.detection.annotations import entries, read_object
from cloisonne.eval.detection.layouts import BoxLayout, Instance, LayoutList, numbered, phrase_of
from cloisonne.scene.shapes.geometry import Box, clipped

INSTANCES = "COCO's annotations of objects, such as instances_val2017.json"
CAPTIONS = "COCO's captions, such as captions_val2017.json"
SMALLEST = 1 / 8
"""Least width and height of a box, as a fraction of the canvas; COCO-MIG has the same limit."""
MOST = 6
"""Most boxes of a layout."""
ORDER = 0
"""Seed of the order of the layouts."""

Photo = tuple[dict[str, Any], list[tuple[str, Box]]]
"""An entry of ``images``, and the class and box of each of its annotations, in the file's order."""


def coco_layouts(instances: Path, captions: Path) -> LayoutList:
    """Layouts of the photographs with one to ``MOST`` large enough objects, in a fixed random order.

    Smaller objects and crowds are left out, and a photograph with more large objects is skipped. The caption is the
    photograph's first one. Raises SceneError for files of another form, or without any such photograph.
    """
    found, classes = photos(instances)
    texts = _captions(captions)
    layouts = []
    for image, objects in found:
        large = [(label, box) for label, box in objects if is_large(box)]
        if 1 <= len(large) <= MOST and image["id"] in texts:
            wanted = tuple(Instance(label=label, phrase=phrase_of(label), box=box) for label, box in large)
            photo = str(image.get("file_name", ""))
            layouts.append(BoxLayout(index=0, caption=texts[image["id"]], instances=wanted, photo=photo))
    if not layouts:
        raise SceneError(
            f'No photograph of "{instances}" has a caption in "{captions}" and one to {MOST} objects of at least '
            f"{SMALLEST} of its width and height; give both files of one split of COCO."
        )
    order = np.random.default_rng(ORDER).permutation(len(layouts))
    return LayoutList(name="coco", layouts=numbered(layouts[place] for place in order), classes=classes)


def photos(path: Path, *, crowds: bool = False) -> tuple[list[Photo], tuple[str, ...]]:
    """The photographs of ``instances_*.json`` with their objects, and the names of all classes. Raises SceneError.

    crowds: also return annotations of crowds.
    """
    data = read_object(path, INSTANCES)
    names = {entry.get("id"): entry.get("name") for entry in entries(data, "categories", path, INSTANCES)}
    images = entries(data, "images", path, INSTANCES)
    objects: dict[Any, list[tuple[str, Box]]] = {entry.get("id"): [] for entry in images}
    sizes = {entry.get("id"): _size(entry, path) for entry in images}
    for entry in entries(data, "annotations", path, INSTANCES):
        owner, label = entry.get("image_id"), names.get(entry.get("category_id"))
        if owner not in objects or label is None:
            raise SceneError(f'"{path}" has an annotation of an unknown image or category; give {INSTANCES}.')
        if (crowds or not entry.get("iscrowd")) and (box := _box(entry.get("bbox"), sizes[owner], path)) is not None:
            objects[owner].append((str(label), box))
    return [(entry, objects[entry["id"]]) for entry in images], tuple(map(str, names.values()))


def is_large(box: Box) -> bool:
    """Whether no side of a box is shorter than ``SMALLEST``."""
    return min(box[2] - box[0], box[3] - box[1]) >= SMALLEST


def _captions(path: Path) -> Mapping[Any, str]:
    """The first caption of each image, by its id."""
    texts: dict[Any, str] = {}
    for entry in _sorted(entries(read_object(path, CAPTIONS), "annotations", path, CAPTIONS)):
        if not isinstance(entry.get("caption"), str):
            raise SceneError(f'"{path}" has an annotation without a caption; give {CAPTIONS}.')
        texts.setdefault(entry.get("image_id"), " ".join(entry["caption"].split()))
    return texts


def _sorted(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda entry: str(entry.get("id", "")).zfill(12))


def _size(entry: Mapping[str, Any], path: Path) -> tuple[float, float]:
    width, height = entry.get("width"), entry.get("height")
    if not isinstance(width, int | float) or not isinstance(height, int | float) or min(width, height) <= 0:
        raise SceneError(f'"{path}" has an image without width and height; give {INSTANCES}.')
    return width, height


def _box(value: Any, size: Sequence[float], path: Path) -> Box | None:
    """COCO's (x, y, width, height) in pixels as fractions, clipped to the canvas; None without area."""
    numbers = value if isinstance(value, list) else ()
    if len(numbers) != 4 or not all(type(number) in (int, float) for number in numbers):
        raise SceneError(f'"{path}" has an annotation without a bbox of four numbers; give {INSTANCES}.')
    x, y, w, h = numbers
    box = clipped((x / size[0], y / size[1], (x + w) / size[0], (y + h) / size[1]))
    return box if box[0] < box[2] and box[1] < box[3] else None
