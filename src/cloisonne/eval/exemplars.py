"""The exemplar benchmark: each row fills the same holes, and the judge measures the images.

OUT/run.json                 the settings of the run; other settings are refused
OUT/items-<row>.jsonl        one line per hole, written when it is measured
OUT/spread-<row>.jsonl       how much images of several seeds differ, one line per hole
OUT/pictures/<row>/*.png     the images, if requested
OUT/exemplars.md, .json      the tables
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloisonne.eval.holes import GLYPHS, REFERENCE, Hole, hole, pasted
from cloisonne.eval.items import Items, open_folder, save_picture, short
from cloisonne.eval.judge import COLOUR, SIZE
from cloisonne.eval.metrics.bootstrap import Sample, mean
from cloisonne.eval.metrics.frechet import MIN_PICTURES
from cloisonne.eval.metrics.holes import CONTEXT, Filled, Gallery, batch, cut, fill_figures, spread
from cloisonne.eval.metrics.layouts import Judging
from cloisonne.eval.metrics.quality import Mixture
from cloisonne.eval.report import Headings, Report, Table, estimates
from cloisonne.eval.samples import differences_of, means
from cloisonne.eval.tables import distance

Picture = NDArray[np.uint8]
Fill = Callable[[Hole, int], Picture]
"""(item, seed) -> image, uint8 RGB [128, 128, 3]."""

TRUTH, TRUTH_VAE, PASTED = "truth", "truth-vae", "copy-paste"
SPREAD_SEEDS = 4
MEASURES: Headings = {
    "identity": ("identity", True),
    "colour": ("colour", True),
    "similarity": ("similarity", True),
    "quality": ("QS", True),
    "seam": ("seam, grey levels", False),
    "outside": ("outside, max", False),
    "fits": ("IoU with blob", True),
    "fits_box": ("IoU with its box", True),
}

LEGEND = """### Columns

- identity: by the judge, the hole's crop is nearest to the exemplar's glyph, of all held-out ones (or core, training)
- colour: of the seven colours, the crop has that of the exemplar, of those that are recoloured (a quarter)
- similarity: cosine of the judge's embeddings of the hole's crop and the exemplar; a pure paste maximises it
- QS: fraction of real crops less likely than the image's under a mixture of 20 Gaussians fitted to real ones
- Fréchet: distance of the crops with a margin of 25 % to real ones
- seam: mean difference of neighbouring pixels across the hole's border, in grey levels
- outside, max: largest difference outside the hole, in grey levels
- IoU with blob, with its box: the judge's object map against the irregular mask and its bounding box
- spread: mean difference in the hole between images of four seeds, in percent of full scale
"""


def evaluate_exemplars(
    rows: Mapping[str, Fill],
    judge: Judging,
    round_trip: Callable[[Picture], Picture],
    out: Path,
    *,
    limit: int = 400,
    spread_items: int = 0,
    glyphs: str = "held-out",
    seed: int = 0,
    about: Mapping[str, str | int | float] | None = None,
    save_pictures: bool = False,
    report: Callable[[str], None] = print,
) -> str:
    """Measure ``rows``, the ceilings and copy-paste on the first ``limit`` holes; returns the tables in markdown.

    Measurements already in ``out`` are reused: the same call resumes a stopped run, adds rows or raises the limit.
    ``spread_items``: number of holes on which four seeds are generated and compared.

    ``glyphs``: whose glyphs are the subjects, a key of ``GLYPHS``.

    Raises OutputError if the folder holds another run, and ValueError for a limit below 1.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}: at least one hole must be evaluated.")
    chars, kind = GLYPHS[glyphs], {} if glyphs == "held-out" else {"glyphs": glyphs}
    fixed = {"benchmark": "exemplars-v1", "measures": " ".join(MEASURES), "colour": COLOUR, "seed": seed}
    open_folder(out, {**fixed, **kind, **(about or {})})
    makers: dict[str, Fill] = dict(rows)
    makers |= {
        PASTED: lambda item, seed: pasted(item),
        TRUTH_VAE: lambda item, seed: np.where(item.mask[..., None], round_trip(item.truth), item.source),
        TRUTH: lambda item, seed: np.where(item.mask[..., None], item.truth, item.source),
    }
    items = {row: Items(out / f"items-{row}.jsonl") for row in makers}
    spreads = {row: Items(out / f"spread-{row}.jsonl") for row in rows}
    known = Gallery(judge, chars)
    for index in range(limit):
        missing = [row for row in makers if index not in items[row]]
        wanted = [row for row in rows if index < spread_items and index not in spreads[row]]
        item = hole(index, chars) if missing or wanted else None
        for row in missing:
            assert item is not None
            rgb = makers[row](item, seed + index)
            items[row].add(index, _line(fill_figures(rgb, item, judge, known)))
            if save_pictures:
                save_picture(np.concatenate([_inputs(item), rgb], 1), out / "pictures" / row / f"{index:04d}.png")
        for row in wanted:
            assert item is not None
            pictures = np.stack([makers[row](item, seed + index + (k << 20)) for k in range(SPREAD_SEEDS)])
            spreads[row].add(index, {"spread": spread(pictures, item.mask)})
        if missing or wanted or index + 1 == limit:
            report(f"{index + 1} of {limit} holes")
    real = _real_crops(out, judge, max(limit, MIN_PICTURES), chars)
    return _report(items, spreads, real, limit, spread_items).write(out, "exemplars")


def _real_crops(out: Path, judge: Judging, count: int, chars: Sequence[str]) -> NDArray[np.float64]:
    """Embeddings [count, 64] of ground-truth crops of other holes."""
    items = Items(out / "items-reference.jsonl")
    for index in range(count):
        if index not in items:
            item = hole(REFERENCE + index, chars)
            crop = cut(item.truth, item.box, CONTEXT)
            items.add(index, {"crop": short(judge(batch(crop[None])).embedding[0])})
    return np.array([items[index]["crop"] for index in range(count)])


def _line(filled: Filled) -> dict[str, Any]:
    return {**vars(filled), "crop": short(filled.crop)}


def _report(
    items: Mapping[str, Items], spreads: Mapping[str, Items], real: NDArray[np.float64], limit: int, spread_items: int
) -> Report:
    mixture = Mixture.fit(real)
    crops = {row: np.array([own[k]["crop"] for k in range(limit)]) for row, own in items.items()}
    samples = {
        row: {name: _sample(own, crops[row], mixture, name, limit) for name in MEASURES} for row, own in items.items()
    }
    found = {
        row: means(own) | {"frechet": distance(list(crops[row][:, None]), [real]), "spread": None}
        for row, own in samples.items()
    }
    for row, own in spreads.items():
        apart = np.array([own[k]["spread"] for k in range(spread_items)])
        found[row]["spread"] = mean(Sample(apart, np.ones(len(apart), int)))
    caption = f"n = {limit} holes (spread: {spread_items}). Percent [95 % interval, bootstrapped over holes]."
    headings = {**MEASURES, "frechet": ("Fréchet", False), "spread": ("spread", True)}
    parts: list[str | Table] = [estimates("rows", caption, headings, found)]
    first = next(iter(samples))
    if compared := differences_of(samples, first):
        parts.append(estimates("differences", f"Row minus {first}, paired:", MEASURES, compared))
    return Report((*parts, LEGEND))


def _sample(items: Items, crops: NDArray[np.float64], mixture: Mixture, name: str, limit: int) -> Sample:
    if name == "quality":
        return Sample(mixture.quality(crops), np.ones(limit, int))
    values = [items[k][name] for k in range(limit)]
    return Sample(
        np.array([0.0 if value is None else float(value) for value in values]),
        np.array([value is not None for value in values], int),
    )


def _inputs(item: Hole) -> Picture:
    """The source with its hole in grey, and the exemplar, side by side."""
    holed = np.where(item.mask[..., None], 128, item.source).astype(np.uint8)
    return np.concatenate([holed, np.asarray(Image.fromarray(item.exemplar).resize((SIZE, SIZE)))], 1)
