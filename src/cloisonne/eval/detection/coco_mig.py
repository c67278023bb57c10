"""COCO-MIG: layouts of 2 to 6 coloured objects (MIGC, Zhou et al., CVPR 2024, arXiv 2402.05408, section 4.1).

The benchmark's files are read: ``mig_bench_anno.yaml`` of github.com/limuloo/MIGC (prompt -> phrase -> boxes) and the
JSON of github.com/LeyRio/MIG_Bench (number -> caption and segment). Without them, ``sampled`` makes layouts from COCO's
annotations by the same procedure (bench_resample.md there).
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cloisonne.errors import SceneError
from cloisonne.eval.detection.annotations import box_of, read_object
from cloisonne.eval.detection.coco import is_large, photos
from cloisonne.eval.detection.colours import HSV
from cloisonne.eval.detection.layouts import BoxLayout, Instance, LayoutList, interleaved, labels_of
from cloisonne.scene.shapes.geometry import Box, area

LEVELS = (2, 3, 4, 5, 6)
"""Numbers of objects."""
PER_LEVEL = 160
"""Layouts of each level in the published list of 800."""
SIDE = 512
"""Images are judged at this size."""
FILE = "the benchmark's mig_bench_anno.yaml, or its JSON file"
_PHRASE = re.compile(rf"(?:an? )?({'|'.join(HSV)}) (.+)")


def read_mig(path: Path) -> LayoutList:
    """The layouts of a file of the benchmark. Raises SceneError for a file of another form."""
    data = read_object(path, FILE)
    as_json = all(isinstance(entry, dict) and "segment" in entry for entry in data.values())
    found = [
        BoxLayout(index=0, caption=caption.strip(), instances=tuple(instances))
        for caption, instances in (_json_entries(data, path) if as_json else _yaml_entries(data, path))
    ]
    if not found or {len(layout.instances) for layout in found} - set(LEVELS):
        raise SceneError(f'"{path}" has no layouts, or one without 2 to 6 boxes; give {FILE}.')
    return _list(found)


def sampled(instances: Path, seed: int = 0) -> LayoutList:
    """At most ``PER_LEVEL`` layouts of each level from COCO's ``instances_*.json``, each object in a random colour.

    As published: photographs with a person among the chosen objects are left out; an object counts if its box is at
    least 1/8 wide and high; of more than six, the first six are taken, the largest first; each prompt occurs once.
    Raises SceneError for a file of another form, or without any such photograph.
    """
    rng = np.random.default_rng(seed)
    found, _ = photos(instances, crowds=True)
    levels: Counter[int] = Counter()
    prompts: set[str] = set()
    layouts = []
    for place in rng.permutation(len(found)):
        chosen = _chosen(found[place][1])
        level = len(chosen)
        if level not in LEVELS or levels[level] == PER_LEVEL or any(label == "person" for label, _ in chosen):
            continue
        wanted = tuple(_coloured(label, box, str(rng.choice(tuple(HSV)))) for label, box in chosen)
        caption = "a photo of " + " and ".join(one.phrase for one in wanted)
        if caption not in prompts:
            prompts.add(caption)
            levels[level] += 1
            layouts.append(BoxLayout(index=0, caption=caption, instances=wanted))
    if not layouts:
        raise SceneError(
            f'No photograph of "{instances}" has 2 to 6 large objects without a person; give more of COCO.'
        )
    return _list(layouts)


def _chosen(objects: list[tuple[str, Box]]) -> list[tuple[str, Box]]:
    large = [(label, box) for label, box in objects if is_large(box)]
    most = LEVELS[-1]
    return sorted(large[:most], key=lambda one: -area(one[1])) if len(large) > most else large


def _coloured(label: str, box: Box, colour: str) -> Instance:
    return Instance(label=label, phrase=f"a {colour} {label}", box=box, colour=colour)


def _list(layouts: list[BoxLayout]) -> LayoutList:
    ordered = interleaved(layouts)
    return LayoutList(name="coco-mig", layouts=ordered, classes=labels_of(ordered), side=SIDE)


def _yaml_entries(data: Mapping[str, Any], path: Path) -> Iterator[tuple[str, list[Instance]]]:
    for caption, phrases in data.items():
        if not isinstance(caption, str) or not isinstance(phrases, dict):
            raise SceneError(f'"{path}" has the entry {caption!r}, which is no prompt with phrases; give {FILE}.')
        boxes = {phrase: places for phrase, places in phrases.items() if phrase != "coco_id"}
        if not all(isinstance(places, list) for places in boxes.values()):
            raise SceneError(f'"{path}" has a phrase without a list of boxes under {caption!r}; give {FILE}.')
        yield caption, [_instance(phrase, box, path) for phrase, places in boxes.items() for box in places]


def _json_entries(data: Mapping[str, Any], path: Path) -> Iterator[tuple[str, list[Instance]]]:
    for number, entry in data.items():
        caption, segment = entry.get("caption"), entry["segment"]
        if not isinstance(caption, str) or not isinstance(segment, list):
            raise SceneError(f'"{path}" has the entry {number!r} without caption and segment; give {FILE}.')
        objects = [one if isinstance(one, dict) else {} for one in segment]
        yield caption, [_instance(one.get("label"), one.get("bbox"), path) for one in objects]


def _instance(phrase: Any, box: Any, path: Path) -> Instance:
    match = _PHRASE.fullmatch(" ".join(phrase.split())) if isinstance(phrase, str) else None
    if match is None:
        raise SceneError(f'"{path}" has the phrase {phrase!r}; a phrase is one of {", ".join(HSV)}, and a class.')
    place = box_of(box, path)
    if place is None:
        raise SceneError(f'"{path}" has the box {box!r}, which is empty or outside of the canvas; give {FILE}.')
    return _coloured(match[2], place, match[1])
