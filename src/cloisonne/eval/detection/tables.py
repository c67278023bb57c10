"""Tables of the benchmarks that a detector judges: means with intervals over layouts, and published figures."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cloisonne.eval.detection.coco_mig import LEVELS
from cloisonne.eval.detection.layouts import BoxLayout, LayoutList
from cloisonne.eval.detection.published import MIG_IOU, MIG_SOURCE, MIG_SUCCESS, SPATIAL, SPATIAL_SOURCE, Levels
from cloisonne.eval.detection.spatial import BOTTOM, LEFT, NEAR, RIGHT, TOP
from cloisonne.eval.metrics.bootstrap import Sample, difference, mean
from cloisonne.eval.report import Cell, Column, Headings, Report, Table, estimates
from cloisonne.eval.samples import paired

ImageItem = Mapping[str, Any]
"""The figures of one image: "regions", and of the spatial benchmark "score", "both" and "position"."""
Rows = Mapping[str, Mapping[int, Sequence[ImageItem]]]
"""Row -> index of the layout -> its images."""

MEASURES: Headings = {
    "found": ("found in the box", True),
    "crop": ("class on the crop", True),
    "iou": ("mIoU", True),
    "colour": ("colour, of the found", True),
    "leakage": ("leakage", True),
    "somewhere": ("found anywhere", True),
}
"""Of an instance."""
RELATED: Headings = {
    "score": ("score", True),
    "position": ("position, of both found", True),
    "both": ("both found", True),
}
"""Of an image of the spatial benchmark."""

_LEGEND = """### Columns

- found in the box: the detector finds an object of the class whose box has an IoU of at least 0.5 with the requested
  one
- class on the crop: the detector's most confident class on the crop of the requested box, among all classes of the
  benchmark, is the requested one
- mIoU: of the requested box with the nearest detected object of its class, 0 if there is none
- colour, of the found: at least a fifth of the object's pixels are in the HSV range of the colour in the phrase
- leakage: fraction of the canvas more than a sixteenth away from all boxes of a class that its detected objects cover
- found anywhere: the detector finds an object of the class anywhere
"""
_MORE = {
    "coco-mig": """- instance success rate: found in the box, in the requested colour
- mIoU of COCO-MIG: as above, but 0 for an object found in its box in another colour
""",
    "spatial": """- score: T2I-CompBench's; half the position's score, a quarter of each confidence; 0 below 0.5
- position: the objects' centres and boxes are at the relation in the prompt
""",
}
"""Columns of a benchmark's own tables."""
_ROWS = """
The row caption has no regions: its prompt is the caption, and the phrases that do not occur in it. The row photographs,
where there is one, has the annotated photographs themselves: what the detector finds where everything is right.
"""


def report_of(layouts: LayoutList, chosen: Sequence[BoxLayout], rows: Rows, heading: str = "") -> Report:
    """The tables of a benchmark, below a heading. rows have an item for every image of the chosen layouts."""
    own: dict[str, Callable[[Sequence[BoxLayout], Rows], list[str | Table]]] = {"coco-mig": _mig, "spatial": _spatial}
    first = own[layouts.name](chosen, rows) if layouts.name in own else []
    above = [f"{heading}\n"] if heading else []
    return Report((*above, *first, *_regions(chosen, rows), _LEGEND + _MORE.get(layouts.name, "") + _ROWS))


def _regions(chosen: Sequence[BoxLayout], rows: Rows) -> list[str | Table]:
    """Objects in their boxes, and the differences to the first row."""
    samples = {row: {name: of_regions(items, chosen, name) for name in MEASURES} for row, items in rows.items()}
    return ["### Objects in their boxes\n", *_compared("boxes", f"{_about(chosen, rows)}.", MEASURES, samples)]


def _mig(chosen: Sequence[BoxLayout], rows: Rows) -> list[str | Table]:
    """COCO-MIG's two tables by level, that of the colour alone, and the differences to the first row."""
    by_level: tuple[tuple[str, str, str, Mapping[str, Levels]], ...] = (
        ("success", "mig-success", "Instance success rate", MIG_SUCCESS),
        ("mig_iou", "mig-iou", "mIoU of COCO-MIG", MIG_IOU),
        ("colour", "mig-colour", "Colour right, of the objects found", {}),
    )
    counts = [sum(len(layout.instances) == level for layout in chosen) for level in LEVELS]
    about = ", ".join(f"L{level} {count}" for level, count in zip(LEVELS, counts, strict=True))
    parts: list[str | Table] = ["### COCO-MIG\n"]
    for name, key, title, published in by_level:
        caption = f"{title}, by number of objects (layouts: {about}). Percent [95 % interval]."
        columns = (Column("", "text"), *(Column(f"L{level}") for level in LEVELS), Column("all"))
        cells = [(row, *_levels(items, chosen, name)) for row, items in rows.items()]
        theirs = [(f"*{row}*", *(f"{100 * value:.1f}" for value in values)) for row, values in published.items()]
        parts.append(Table(name=key, columns=columns, rows=(*cells, *theirs), caption=caption))
    samples = {
        row: {"success": of_regions(items, chosen, "success"), "mig_iou": of_regions(items, chosen, "mig_iou")}
        for row, items in rows.items()
    }
    headings = {"success": ("instance success rate", True), "mig_iou": ("mIoU of COCO-MIG", True)}
    return [*parts, *_differences("mig", headings, samples), f"{MIG_SOURCE}\n"]


def _levels(items: Mapping[int, Sequence[ImageItem]], chosen: Sequence[BoxLayout], name: str) -> list[Cell]:
    """A figure at each level and over all instances."""
    groups = [[layout for layout in chosen if len(layout.instances) == level] for level in LEVELS]
    return [mean(of_regions(items, group, name)) if group else None for group in (*groups, chosen)]


def _spatial(chosen: Sequence[BoxLayout], rows: Rows) -> list[str | Table]:
    """The scores next to the published ones, their differences to the first row, and the positions by relation."""
    samples = {row: {name: of_images(items, chosen, name) for name in RELATED} for row, items in rows.items()}
    scores = estimates("spatial", f"{_about(chosen, rows)}.", RELATED, _means(samples))
    theirs = [(f"*{row}*", f"{100 * value:.2f}", None, None) for row, value in SPATIAL.items()]
    scores = Table(name=scores.name, columns=scores.columns, rows=(*scores.rows, *theirs), caption=scores.caption)
    groups = {"left": (LEFT,), "right": (RIGHT,), "top": (TOP,), "bottom": (BOTTOM,), "near": NEAR}
    columns = (Column("", "text"), *map(Column, groups))
    cells = tuple((row, *_by_relation(items, chosen, tuple(groups.values()))) for row, items in rows.items())
    by_relation = Table(name="spatial-relations", columns=columns, rows=cells, caption="Score by relation, in percent:")
    parts: list[str | Table] = ["### T2I-CompBench, spatial\n", scores, *_differences("spatial", RELATED, samples)]
    return [*parts, by_relation, f"{SPATIAL_SOURCE}\n"]


def _by_relation(
    items: Mapping[int, Sequence[ImageItem]], chosen: Sequence[BoxLayout], groups: Sequence[Sequence[str]]
) -> list[Cell]:
    members = [[layout for layout in chosen if layout.relation in group] for group in groups]
    return [mean(of_images(items, group, "score")) if group else None for group in members]


def _compared(name: str, caption: str, headings: Headings, samples: Mapping[str, Mapping[str, Sample]]) -> list[Table]:
    """The table of means, and that of differences to the first row."""
    return [estimates(name, caption, headings, _means(samples)), *_differences(name, headings, samples)]


def _differences(name: str, headings: Headings, samples: Mapping[str, Mapping[str, Sample]]) -> list[Table]:
    first, *others = samples
    if not others:
        return []
    rows = {
        row: {key: difference(*paired(sample, samples[first][key])) for key, sample in samples[row].items()}
        for row in others
    }
    return [estimates(f"{name}-differences", f"Row minus {first}, paired by layout:", headings, rows)]


def _means(samples: Mapping[str, Mapping[str, Sample]]) -> dict[str, dict[str, Any]]:
    return {row: {key: mean(sample) for key, sample in own.items()} for row, own in samples.items()}


def of_regions(items: Mapping[int, Sequence[ImageItem]], chosen: Sequence[BoxLayout], name: str) -> Sample:
    """One figure of the instances of each layout; None is skipped."""
    return _sample(items, chosen, lambda image: [region[name] for region in image["regions"]])


def of_images(items: Mapping[int, Sequence[ImageItem]], chosen: Sequence[BoxLayout], name: str) -> Sample:
    """One figure of the images of each layout; None is skipped."""
    return _sample(items, chosen, lambda image: [image[name]])


def _sample(
    items: Mapping[int, Sequence[ImageItem]], chosen: Sequence[BoxLayout], values_of: Callable[[ImageItem], list[Any]]
) -> Sample:
    values = [[value for image in items[layout.index] for value in values_of(image)] for layout in chosen]
    present = [[value for value in layout if value is not None] for layout in values]
    return Sample(np.array([sum(own) for own in present], float), np.array([len(own) for own in present]))


def _about(chosen: Sequence[BoxLayout], rows: Rows) -> str:
    images = max(len(images) for items in rows.values() for images in items.values())
    boxes = sum(len(layout.instances) for layout in chosen)
    each = f", {images} images of each" if images > 1 else ""
    return (
        f"n = {len(chosen)} layouts{each}, {boxes} boxes. Percent [95 % interval, bootstrapped over layouts, the "
        "images of a layout together]"
    )
