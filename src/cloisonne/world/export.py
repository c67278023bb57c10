"""Writes world images with their ground truth: PNG, scene JSON, masks, and one COCO annotation file."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cloisonne.errors import OutputError, SceneError, spelled
from cloisonne.scene import Region, Scene, write_picture
from cloisonne.scene.io.output import target_of
from cloisonne.scene.shapes.rle import encode
from cloisonne.world.draw import Drawn, draw
from cloisonne.world.glyphs import HELD_OUT, TRAINING, words_of
from cloisonne.world.picture import Recipe, sample
from cloisonne.world.words import caption, phrase

_CATEGORY = {char: number for number, char in enumerate((*TRAINING, *HELD_OUT), start=1)}
_CORE_GLYPHS = Recipe()


def scene_of(drawn: Drawn) -> Scene:
    """The scene that describes a rendered image.

    The caption names the background (and the style). Each object is a region ``region-0``, ``region-1``, ..., from back
    to front, with its tight box, occluded parts included, and a noun phrase. The texts depend only on the seed.
    """
    rng = np.random.default_rng([drawn.picture.seed, 20263])
    height, width = drawn.labels.shape
    boxes = drawn.boxes()
    regions = []
    for k, (item, box) in enumerate(zip(drawn.picture.items, boxes, strict=True)):
        area = (box[2] - box[0]) * (box[3] - box[1])
        regions.append(Region(name=f"region-{k}", box=box, phrase=phrase(item, area, rng)))
    text = caption(drawn.picture, boxes, rng, objects=False)
    return Scene(width=width, height=height, caption=text, regions=tuple(regions))


def export(
    seeds: Iterable[int],
    folder: Path,
    *,
    recipe: Recipe = _CORE_GLYPHS,
    width: int = 128,
    height: int = 128,
    overwrite: bool = False,
) -> list[Path]:
    """Render the images of ``seeds`` into ``folder``.

    Seed 7 gives ``000007.png``, ``000007.json`` (the scene) and a mask per region, ``000007-region-0.png`` (its full
    extent in white, occluded parts included). ``annotations.json`` describes all images in COCO format: the annotations
    of an image go from back to front and have the phrase of the region as ``caption``.

    Returns:
        The paths of the scenes.

    Raises:
        OutputError: An image or the annotations exist and ``overwrite`` is False, or the folder cannot be written.
        SceneError: A seed is negative, or the size is invalid for a scene.
    """
    wanted = list(dict.fromkeys(seeds))
    if negative := [seed for seed in wanted if seed < 0]:
        raise SceneError(f"The seed {negative[0]} is negative; give a seed of at least 0.")
    Scene(width=width, height=height)
    if not overwrite:
        _refuse_existing([folder / "annotations.json", *(folder / f"{seed:06d}.png" for seed in wanted)])
    coco: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for seed in wanted:
            drawn = draw(sample(seed, recipe), width, height)
            scene = scene_of(drawn)
            _write_files(folder / f"{seed:06d}", drawn, scene)
            image = {"id": seed, "file_name": f"{seed:06d}.png", "width": width, "height": height}
            coco["images"].append(image | {"caption": scene.caption})
            coco["annotations"] += _annotations(drawn, scene, first_id=len(coco["annotations"]) + 1)
        categories = _categories({annotation["category_id"] for annotation in coco["annotations"]})
        text = json.dumps(coco | {"categories": categories}, ensure_ascii=False, indent=1) + "\n"
        _write(folder / "annotations.json", text)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f'The folder "{folder}" cannot be written ({error.strerror}); choose another.') from None
    return [folder / f"{seed:06d}.json" for seed in wanted]


def _refuse_existing(paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            allowed = spelled("overwrite=True", "--overwrite")
            raise OutputError(f'The output "{path}" exists; choose another folder, or allow it with {allowed}.')


def _write_files(stem: Path, drawn: Drawn, scene: Scene) -> None:
    write_picture(Image.fromarray(drawn.rgb), stem.with_suffix(".png"), overwrite=True)
    for region, mask in zip(scene.regions, drawn.masks, strict=True):
        white = Image.fromarray(mask.astype(np.uint8) * 255)
        write_picture(white, stem.with_name(f"{stem.name}-{region.name}.png"), overwrite=True)
    _write(stem.with_suffix(".json"), scene.to_json())


def _annotations(drawn: Drawn, scene: Scene, first_id: int) -> list[dict[str, Any]]:
    """One COCO annotation per object; ``bbox`` is [x, y, width, height] in pixels."""
    out = []
    for k, (item, region, mask) in enumerate(zip(drawn.picture.items, scene.regions, drawn.masks, strict=True)):
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        x, y = int(columns[0]), int(rows[0])
        out.append(
            {
                "id": first_id + k,
                "image_id": drawn.picture.seed,
                "category_id": _CATEGORY[item.char],
                "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
                "area": int(mask.sum()),
                "segmentation": {"size": list(mask.shape), "counts": encode(mask)},
                "iscrowd": 0,
                "caption": region.phrase,
            }
        )
    return out


def _categories(used: set[int]) -> list[dict[str, Any]]:
    return [{"id": number, "name": words_of(char)[0]} for char, number in _CATEGORY.items() if number in used]


def _write(path: Path, text: str) -> None:
    """Write atomically: to a temporary file that replaces ``path``."""
    target = target_of(path)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(text, "utf-8")
    os.replace(partial, target)
