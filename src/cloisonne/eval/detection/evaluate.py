"""Generates the images of a list of layouts, has them judged, and writes the tables.

OUT/run.json                the settings of the run; other settings are refused
OUT/items-<row>.jsonl       one line per image, written when it is judged
OUT/pictures/<row>/*.png    the images, if requested
OUT/layouts.md, .json       the tables
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cloisonne.eval.detection.layouts import BoxLayout, LayoutList
from cloisonne.eval.detection.tables import report_of
from cloisonne.eval.items import Items, open_folder, save_picture
from cloisonne.eval.report import Report
from cloisonne.scene import Scene

Generate = Callable[[Scene, str, int], np.ndarray]
"""(scene without method and seed, method, seed) -> image, uint8 RGB [H, W, 3]."""
Judge = Callable[[np.ndarray, BoxLayout], Mapping[str, Any]]
"""(image, uint8 RGB [H, W, 3]; layout) -> its figures as JSON values; see ``measure.Judges``."""
Photograph = Callable[[BoxLayout], np.ndarray]
"""The photograph of a layout, uint8 RGB [H, W, 3]."""

PHOTOGRAPHS = "photographs"
"""The row of the annotated photographs."""
NEXT_IMAGE = 100_000
"""Image k of a layout has the seed of its first image + k times this number."""


def evaluate_detected(
    generate: Generate,
    judge: Judge,
    layouts: LayoutList,
    out: Path,
    *,
    methods: Sequence[str],
    images: int = 1,
    photograph: Photograph | None = None,
    limit: int | None = None,
    seed: int = 0,
    about: Mapping[str, str | int | float | None] | None = None,
    heading: str = "",
    save_pictures: bool = False,
    report: Callable[[str], None] = print,
) -> Report:
    """Measure methods on the first ``limit`` layouts (None: all), with ``images`` images of each, and write the tables.

    Measurements already in ``out`` are reused: the same call resumes a stopped run, adds methods or raises the limit.
    Layout i has the seed ``seed + i``. photograph: adds a row of the photographs. ``about`` describes model and judge;
    with the seed, the images and the layouts' hash it must be the same when a run is resumed. ``heading`` stands above
    the tables. The rows advance together, layout by layout.

    Raises OutputError if the folder holds another run.
    """
    settings = {"benchmark": layouts.name, "layouts": layouts.sha256, "seed": seed, "images": images}
    open_folder(out, {**settings, **(about or {})})
    chosen = layouts.layouts[:limit]
    counts = {**dict.fromkeys(methods, images), **({} if photograph is None else {PHOTOGRAPHS: 1})}
    rows = {row: Items(out / f"items-{row}.jsonl") for row in counts}

    def make(row: str, layout: BoxLayout, k: int) -> np.ndarray:
        if row == PHOTOGRAPHS and photograph is not None:
            return photograph(layout)
        scene = layout.captioned() if row == "caption" else layout.scene()
        return generate(scene, row, seed + layout.index + k * NEXT_IMAGE)

    for layout in chosen:
        numbers = [(row, k, layout.index * images + k) for row, count in counts.items() for k in range(count)]
        missing = [one for one in numbers if one[2] not in rows[one[0]]]
        for row, k, number in missing:
            rgb = make(row, layout, k)
            if save_pictures:
                save_picture(rgb, out / "pictures" / row / f"{layout.index:05d}-{k}.png")
            rows[row].add(number, judge(rgb, layout))
        if missing or layout is chosen[-1]:
            report(f"{layout.index + 1} of {len(chosen)} layouts")
    found = {
        row: {layout.index: [rows[row][layout.index * images + k] for k in range(count)] for layout in chosen}
        for row, count in counts.items()
    }
    tables = report_of(layouts, chosen, found, heading)
    tables.write(out, "layouts")
    return tables
