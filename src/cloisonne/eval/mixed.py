"""The benchmark of mixed scenes: what each condition loses next to the others, and the cost of mixing.

OUT/run.json         the settings of the run; other settings are refused
OUT/items.jsonl      one line per case, written when it is measured
OUT/pictures/*.png   the images, if requested: each condition alone, then together
OUT/mixed.md, .json  the tables
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from cloisonne.eval.items import Items, open_folder, save_picture
from cloisonne.eval.metrics.bootstrap import Estimate, Sample, difference, mean, ratio
from cloisonne.eval.metrics.control import boundary, edges
from cloisonne.eval.metrics.holes import Gallery, batch
from cloisonne.eval.metrics.layouts import Judging, crop, measure
from cloisonne.eval.mixed_cases import KINDS, MIXED, TOGETHER, Case, Kind, cases
from cloisonne.eval.report import Cell, Column, Headings, Report, Table, estimates
from cloisonne.scene import Scene

PictureArray = NDArray[np.uint8]
MEASURES: Mapping[Kind, tuple[str, ...]] = {
    "phrase": ("found", "crop"),
    "exemplar": ("identity", "similarity"),
    "control": ("boundary F",),
}
"""The figures of each kind of condition, all printed in percent."""
COSTS: Headings = {
    "rows": ("rows", False),
    "calls": ("calls of networks", False),
    "time": ("time, of the dearest single", False),
}
LEGEND = """### Columns

- found, crop: the phrase's object is found in its box with an IoU of at least one half; the box's crop is classified
  as it
- identity, similarity: the crop of the exemplar's box is nearest to the exemplar's glyph among 60 held-out ones (in the
  scenes of one region: is classified as it); cosine of the judge's embeddings of crop and exemplar
- boundary F: of the edges in the control's box against the map's
- leakage: mean difference in a region between the image with it alone and the image with all, relative to the
  difference between the image with it and one without it
- rows, time: network rows; time of an image, relative to the slowest scene with a single condition
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Generated:
    """A generated image. rgb: uint8 [128, 128, 3]. rows, calls: of all networks over all steps. seconds: total time."""

    rgb: PictureArray
    rows: int
    calls: int
    seconds: float


def evaluate_mixed(
    generate: Callable[[Scene, int], Generated],
    judge: Judging,
    out: Path,
    *,
    limit: int = 200,
    given: bool = False,
    together: bool = True,
    seed: int = 0,
    about: Mapping[str, str | int | float] | None = None,
    save_pictures: bool = False,
    report: Callable[[str], None] = print,
) -> str:
    """Generate the first ``limit`` scenes with each region alone and with all, and measure every condition in both.

    given: inpaint into the background image; otherwise generate the whole canvas. together: add a scene of one region
    with all three conditions. Measurements already in ``out`` are reused: the same call resumes a stopped run or raises
    the limit. Returns the tables in markdown. Raises OutputError if the folder holds another run, and ValueError for a
    limit below 1.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}: at least one scene must be evaluated.")
    open_folder(out, {"benchmark": "mixed-v1", "given": given, "together": together, "seed": seed, **(about or {})})
    items, known = Items(out / "items.jsonl"), Gallery(judge)
    for case in cases(limit):
        missing = case.index not in items
        if missing:
            images = {
                name: generate(scene, seed + case.index)
                for name, scene in _scenes(case, given=given, together=together).items()
            }
            items.add(case.index, _item(case, images, judge, known))
            if save_pictures:
                row = [case.truth, *(one.rgb for one in images.values())]
                save_picture(np.concatenate(row, 1), out / "pictures" / f"{case.index:04d}.png")
        if missing or case.index + 1 == limit:
            report(f"{case.index + 1} of {limit} scenes")
    return _report([items[k] for k in range(limit)], given=given, together=together).write(out, "mixed")


def _scenes(case: Case, *, given: bool, together: bool) -> dict[str, Scene]:
    """Scenes with each condition alone, then with all; likewise in one region."""
    found = {kind: case.scene((kind,), given=given) for kind in KINDS} | {MIXED: case.scene(KINDS, given=given)}
    if not together:
        return dict(found)
    own = {f"{TOGETHER} {kind}": case.together((kind,), given=given) for kind in KINDS}
    return {**found, **own, TOGETHER: case.together(KINDS, given=given)}


def _item(case: Case, images: Mapping[str, Generated], judge: Judging, known: Gallery) -> dict[str, Any]:
    true = edges(case.truth)
    item: dict[str, Any] = {
        name: {"rows": one.rows, "calls": one.calls, "seconds": one.seconds} for name, one in images.items()
    }
    for name, one in images.items():
        own = name.startswith(TOGETHER)
        at = {kind: case.place("phrase" if own else kind) for kind in KINDS}
        seen = measure(one.rgb, [at[kind] for kind in KINDS], judge)
        exemplar = F.normalize(_embedded(case.own if own else case.exemplar, judge), dim=0)
        crops = {kind: seen.crops[k] for k, kind in enumerate(KINDS)}
        similarity = float(F.normalize(crops["exemplar"], dim=0) @ exemplar)
        identity = seen.regions[1].crop if own else known.nearest(crops["exemplar"]) == case.char
        edge = boundary(edges(one.rgb), true, case.mask("phrase" if own else "control"))["f"]
        first = seen.regions[0]
        item[name] |= {
            "found": first.found,
            "crop": first.crop,
            "identity": identity,
            "similarity": similarity,
            "boundary F": edge,
        }
    item["leakage"] = {kind: _moved(case, images, kind) for kind in KINDS}
    return item


def _moved(case: Case, images: Mapping[str, Generated], kind: Kind) -> list[float]:
    """Mean differences in a kind's region, in grey levels: alone against mixed, alone against a scene without it."""
    mask = case.mask(kind)
    without = images[KINDS[(KINDS.index(kind) + 1) % len(KINDS)]]
    alone = images[kind].rgb[mask].astype(float)
    return [float(np.abs(alone - other.rgb[mask]).mean()) for other in (images[MIXED], without)]


def _embedded(rgb: PictureArray, judge: Judging) -> Any:
    return judge(batch(crop(rgb, (0.0, 0.0, 1.0, 1.0))[None])).embedding[0]


def _report(items: list[dict[str, Any]], *, given: bool, together: bool) -> Report:
    canvas = "over a background image" if given else "from scratch"
    caption = f"n = {len(items)} scenes. Percent [95 % interval, bootstrapped over scenes]; differences are paired."
    alone: dict[Kind, tuple[str, str]] = {kind: (kind, MIXED) for kind in KINDS}
    parts: list[str | Table] = [
        f"### Scenes generated {canvas}\n",
        _compared("mixed", caption, items, alone, leaks=True),
    ]
    if together:
        own: dict[Kind, tuple[str, str]] = {kind: (f"{TOGETHER} {kind}", TOGETHER) for kind in KINDS}
        parts.append(_compared("together", "All three conditions in one region:", items, own, leaks=False))
    return Report((*parts, _costs(items, together=together), LEGEND))


def _compared(
    name: str, caption: str, items: list[dict[str, Any]], rows: Mapping[Kind, tuple[str, str]], *, leaks: bool
) -> Table:
    """The figures of each kind alone and with the others."""
    header = [Column("condition", "text"), Column("figure", "text")]
    header += map(Column, ("alone", "with the others", "difference", *(["leakage"] if leaks else [])))
    body: list[tuple[Cell, ...]] = []
    for kind, (alone, both) in rows.items():
        for key in MEASURES[kind]:
            a, b = (_sample([item[row][key] for item in items]) for row in (alone, both))
            line: list[Cell] = [kind, key, mean(a), mean(b), difference(b, a)]
            if leaks:
                moved = [_sample([item["leakage"][kind][k] for item in items]) for k in (0, 1)]
                line.append(ratio(*moved) if key == MEASURES[kind][0] else "")
            body.append(tuple(line))
    return Table(name=name, caption=caption, columns=tuple(header), rows=tuple(body))


def _costs(items: list[dict[str, Any]], *, together: bool) -> Table:
    found: dict[str, dict[str, Estimate | None]] = {}
    for prefix, whole in (("", MIXED), (f"{TOGETHER} ", TOGETHER)) if together else (("", MIXED),):
        names = [*(f"{prefix}{kind}" for kind in KINDS), whole]
        spent = {name: _sample([item[name]["seconds"] for item in items]) for name in names}
        slowest = max(names[:-1], key=lambda name: spent[name].totals.sum())
        for name in names:
            found[name] = {key: mean(_sample([item[name][key] for item in items])) for key in ("rows", "calls")}
            found[name]["time"] = ratio(spent[name], spent[slowest])
    return estimates("cost", "Cost:", COSTS, found, label="scene")


def _sample(values: list[Any]) -> Sample:
    present = np.array([value is not None for value in values])
    return Sample(np.array([0.0 if value is None else float(value) for value in values]), present.astype(int))
