"""The exemplar benchmark: every row fills the same holes, the judge measures, and tables come out.

OUT/run.json                 what was run; another run is refused
OUT/items-<row>.jsonl        one line a hole, written as it is measured
OUT/spread-<row>.jsonl       how much the pictures of several seeds differ, one line a hole
OUT/pictures/<row>/*.png     the pictures, if asked for
OUT/exemplars.md, .json      the tables
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloisonne.eval.holes import REFERENCE, Hole, hole, pasted
from cloisonne.eval.items import Items, open_folder, save_picture, short, write_whole
from cloisonne.eval.judge import SIZE
from cloisonne.eval.metrics.bootstrap import Sample, difference, mean
from cloisonne.eval.metrics.frechet import MIN_PICTURES
from cloisonne.eval.metrics.holes import CONTEXT, Filled, Gallery, batch, cut, fill_figures, spread
from cloisonne.eval.metrics.layouts import Judging
from cloisonne.eval.metrics.quality import Mixture
from cloisonne.eval.report import figure, table
from cloisonne.eval.tables import distance

Picture = NDArray[np.uint8]
Fill = Callable[[Hole, int], Picture]
"""(item, seed) -> picture, uint8 RGB [128, 128, 3]."""

TRUTH, TRUTH_VAE, PASTED = "truth", "truth-vae", "copy-paste"
SPREAD_SEEDS = 4
MEASURES = {
    "identity": ("identity", True),
    "similarity": ("similarity", True),
    "quality": ("QS", True),
    "seam": ("seam, grey levels", False),
    "outside": ("outside, max", False),
    "fits": ("IoU with blob", True),
    "fits_box": ("IoU with its box", True),
}
"""Heading of each figure, and whether it is a share."""

LEGEND = """### Columns

- identity: among the 60 held-out glyphs, the hole's crop is nearest (by the judge's embedding) to the exemplar's
- similarity: cosine of the judge's embeddings of the hole's crop and the exemplar; a pure paste maximises it
- QS: share of real crops that are less likely than the picture's, under a mixture of 20 Gaussians fitted on real ones
- Fréchet: distance of the crops with a margin of 25 % to real ones
- seam: mean difference of neighbouring pixels across the hole's border, in grey levels
- outside, max: largest difference outside of the hole
- IoU with blob, with its box: what the judge takes for an object, against the irregular mask and its bounding box
- spread: mean difference in the hole between pictures of four seeds, in percent of full scale
"""


def evaluate_exemplars(
    rows: Mapping[str, Fill],
    judge: Judging,
    round_trip: Callable[[Picture], Picture],
    out: Path,
    *,
    limit: int = 400,
    spread_items: int = 0,
    seed: int = 0,
    about: Mapping[str, str | int | float] | None = None,
    save_pictures: bool = False,
    report: Callable[[str], None] = print,
) -> str:
    """Measure ``rows``, the ceilings and copy-paste on the first ``limit`` holes; returns the tables, in markdown.

    What is already in ``out`` is kept, so the same call continues a run that was stopped, adds rows or raises the
    limit. ``spread_items``: on so many holes also draw four seeds and measure how much they differ.

    Raises OutputError for a folder that holds another run, and ValueError for a limit below 1.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}: at least one hole must be evaluated.")
    open_folder(out, {"benchmark": "exemplars-v1", "seed": seed, **(about or {})})
    drawing: dict[str, Fill] = dict(rows)
    drawing |= {
        PASTED: lambda item, seed: pasted(item),
        TRUTH_VAE: lambda item, seed: np.where(item.mask[..., None], round_trip(item.truth), item.source),
        TRUTH: lambda item, seed: np.where(item.mask[..., None], item.truth, item.source),
    }
    kept = {row: Items(out / f"items-{row}.jsonl") for row in drawing}
    spreads = {row: Items(out / f"spread-{row}.jsonl") for row in rows}
    known = Gallery(judge)
    for index in range(limit):
        missing = [row for row in drawing if index not in kept[row]]
        wanted = [row for row in rows if index < spread_items and index not in spreads[row]]
        item = hole(index) if missing or wanted else None
        for row in missing:
            assert item is not None
            rgb = drawing[row](item, seed + index)
            kept[row].add(index, _line(fill_figures(rgb, item, judge, known)))
            if save_pictures:
                save_picture(np.concatenate([_shown(item), rgb], 1), out / "pictures" / row / f"{index:04d}.png")
        for row in wanted:
            assert item is not None
            pictures = np.stack([drawing[row](item, seed + index + (k << 20)) for k in range(SPREAD_SEEDS)])
            spreads[row].add(index, {"spread": spread(pictures, item.mask)})
        if missing or wanted or index + 1 == limit:
            report(f"{index + 1} of {limit} holes")
    text = _tables(kept, spreads, _real_crops(out, judge, max(limit, MIN_PICTURES)), limit, spread_items)
    write_whole(out / "exemplars.md", text)
    return text


def _real_crops(out: Path, judge: Judging, count: int) -> NDArray[np.float64]:
    """Embeddings [count, 64] of crops of other holes' truths."""
    kept = Items(out / "items-reference.jsonl")
    for index in range(count):
        if index not in kept:
            item = hole(REFERENCE + index)
            crop = cut(item.truth, item.box, CONTEXT)
            kept.add(index, {"crop": short(judge(batch(crop[None])).embedding[0])})
    return np.array([kept[index]["crop"] for index in range(count)])


def _line(filled: Filled) -> dict[str, Any]:
    return {**vars(filled), "crop": short(filled.crop)}


def _tables(
    kept: Mapping[str, Items], spreads: Mapping[str, Items], real: NDArray[np.float64], limit: int, spread_items: int
) -> str:
    mixture = Mixture.fit(real)
    crops = {row: np.array([items[k]["crop"] for k in range(limit)]) for row, items in kept.items()}
    samples = {
        row: {name: _sample(items, crops[row], mixture, name, limit) for name in MEASURES}
        for row, items in kept.items()
    }
    header = ["", *(title for title, _ in MEASURES.values()), "Fréchet", "spread"]
    body = []
    for row, own in samples.items():
        cells = [figure(mean(own[name]), percent=share) for name, (_, share) in MEASURES.items()]
        apart = [spreads[row][k]["spread"] for k in range(spread_items)] if row in spreads else []
        cells.append(figure(distance(list(crops[row][:, None]), [real]), percent=False))
        cells.append(figure(mean(Sample(np.array(apart), np.ones(len(apart), int)))) if apart else "–")
        body.append([row, *cells])
    parts = [
        f"n = {limit} holes (spread: {spread_items}). Percent [95 % interval, bootstrapped over holes].\n",
        table(header, body),
    ]
    first = next(iter(samples))
    rest = [row for row in samples if row != first]
    if rest:
        lines = [
            [row]
            + [
                figure(difference(samples[row][name], samples[first][name]), percent=share)
                for name, (_, share) in MEASURES.items()
            ]
            for row in rest
        ]
        parts += [f"Row minus {first}, paired:\n", table(["", *(title for title, _ in MEASURES.values())], lines)]
    return "\n".join([*parts, LEGEND])


def _sample(items: Items, crops: NDArray[np.float64], mixture: Mixture, name: str, limit: int) -> Sample:
    if name == "quality":
        return Sample(mixture.quality(crops), np.ones(limit, int))
    values = [items[k][name] for k in range(limit)]
    return Sample(
        np.array([0.0 if value is None else float(value) for value in values]),
        np.array([value is not None for value in values], int),
    )


def _shown(item: Hole) -> Picture:
    """Source with its hole in grey, and the exemplar, side by side."""
    holed = np.where(item.mask[..., None], 128, item.source).astype(np.uint8)
    return np.concatenate([holed, np.asarray(Image.fromarray(item.exemplar).resize((SIZE, SIZE)))], 1)
