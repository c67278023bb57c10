"""The translation benchmark: distance to the ground truth of ``translation_items.py``, and cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cloisonne.eval.items import Items, open_folder, save_picture
from cloisonne.eval.metrics.bootstrap import Sample
from cloisonne.eval.metrics.edits import structure
from cloisonne.eval.metrics.holes import Gallery, batch
from cloisonne.eval.metrics.layouts import Judging, crop
from cloisonne.eval.report import Headings, Report, Table, estimates
from cloisonne.eval.row_names import CEILINGS, COPY_REFERENCE, COPY_SOURCE
from cloisonne.eval.samples import differences_of, means
from cloisonne.eval.translation_items import TASKS, TranslationItem, places, translation_item
from cloisonne.world.picture import STYLES

SIZE = 128
Picture = NDArray[np.uint8]
TRUTH_VAE, COPY = CEILINGS[0], COPY_SOURCE
MEASURES: Headings = {
    "closeness": ("closeness", True),
    "concept": ("concept", True),
    "structure": ("structure x1e3", False),
    "rows": ("rows", False),
    "seconds": ("seconds", False),
}
RESAMPLED = (
    "bootstrapped over sources and references: both are resampled, and a pair counts as often as its source times its "
    "reference"
)
LEGEND = """### Columns

- closeness: to the ground truth, by the root mean squared difference of pixels: 0 for a copy of the source, 1 for the
  ground truth through the VAE; below 0 is further away than the source
- concept: style: the judge's probability of the reference's style; subject: the crop's nearest of the 60 held-out
  glyphs is the reference's
- structure: mean squared difference of the cosine similarities of all of the judge's 16 x 16 cells to the source's
- rows, seconds: network rows and time of a pair, including those of learning a concept
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Translated:
    """The result of a row for an item: image, network rows and time in seconds."""

    image: Picture
    rows: int | None = None
    seconds: float | None = None


Row = Callable[[TranslationItem, int], Translated]
"""(item, seed) -> result."""


def evaluate_translations(
    rows: Mapping[str, Row],
    judge: Judging,
    round_trip: Callable[[Picture], Picture],
    out: Path,
    *,
    limit: int = 50,
    seed: int = 0,
    about: Mapping[str, str | int | float] | None = None,
    save_pictures: bool = False,
    report: Callable[[str], None] = print,
) -> str:
    """Measure ``rows``, both copies and the upper bound on the first ``limit`` items of each task.

    Returns the tables in markdown. Measurements already in ``out`` are reused. Raises OutputError if the folder holds
    another run.
    """
    open_folder(out, {"benchmark": "translations-v2", "seed": seed, **(about or {})})
    makers: dict[str, Row] = dict(rows)
    makers |= {
        COPY: lambda item, seed: Translated(image=item.source),
        COPY_REFERENCE: lambda item, seed: Translated(image=_large(item.reference)),
        TRUTH_VAE: lambda item, seed: Translated(image=round_trip(item.truth)),
    }
    items = {row: Items(out / f"items-{row}.jsonl") for row in makers}
    known = Gallery(judge)
    count = 2 * limit
    for index in range(count):
        missing = [row for row in makers if index not in items[row]]
        item = translation_item(index) if missing else None
        for row in missing:
            assert item is not None
            made = makers[row](item, seed + index)
            ceiling = _apart(round_trip(item.truth), item.truth)
            items[row].add(index, _figures(made, item, judge, known, ceiling))
            if save_pictures:
                panels = [item.source, _large(item.reference), item.truth, made.image]
                save_picture(np.concatenate(panels, 1), out / "pictures" / row / f"{index:04d}.png")
        if missing or index + 1 == count:
            report(f"{index + 1} of {count} pairs")
    return _report(items, count).write(out, "translations")


@torch.no_grad()
def _figures(made: Translated, item: TranslationItem, judge: Judging, known: Gallery, ceiling: float) -> dict[str, Any]:
    worst = _apart(item.source, item.truth)
    if item.task == "style":
        verdict = judge(batch(made.image[None]))
        concept = float(verdict.styles.softmax(1)[0, STYLES.index(item.wanted)])
    else:
        seen = judge(batch(crop(made.image, item.box)[None]))
        concept = float(known.nearest(F.normalize(seen.embedding[0], dim=0)) == item.wanted)
    return {
        "closeness": (worst - _apart(made.image, item.truth)) / (worst - ceiling),
        "concept": concept,
        "structure": 1e3 * structure(item.source, made.image, judge),
        "rows": made.rows,
        "seconds": made.seconds,
    }


def _apart(a: Picture, b: Picture) -> float:
    return float(np.sqrt(np.square(a.astype(np.float64) - b).mean()))


def _large(rgb: Picture) -> Picture:
    return np.asarray(cv2.resize(rgb, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def _report(items: Mapping[str, Items], count: int) -> Report:
    parts: list[str | Table] = [f"Percent, except structure, rows and seconds [95 % interval, {RESAMPLED}].\n"]
    compared = {name: heading for name, heading in MEASURES.items() if name not in ("rows", "seconds")}
    for place, task in enumerate(TASKS):
        indices = range(place, count, 2)
        samples = {row: {name: _sample(own, indices, name) for name in MEASURES} for row, own in items.items()}
        found = {row: means(own) for row, own in samples.items()}
        parts += [f"### {task}\n", estimates(task, f"n = {len(indices)} pairs.", MEASURES, found)]
        first = next(iter(samples))
        apart = differences_of(samples, first)
        parts.append(estimates(f"{task}-differences", f"Row minus {first}, paired:", compared, apart))
    return Report((*parts, LEGEND))


def _sample(items: Items, indices: range, name: str) -> Sample:
    values = [items[k][name] for k in indices]
    there = np.array([value is not None for value in values], int)
    sources, references = np.array([places(k) for k in indices]).T
    return Sample(np.array([0.0 if value is None else float(value) for value in values]), there, (sources, references))
