"""The control benchmark: each row generates the scenes of control-v1; edges are measured inside and outside the mask.

OUT/run.json                    the settings of the run; other settings are refused
OUT/rows/<row>/run.json         the settings of the row; another adapter of the same name is refused
OUT/rows/<row>/items.jsonl      one line per scene, written when it is measured
OUT/rows/<row>/variety.jsonl    how much images of several seeds differ, one line per scene, if requested
OUT/pictures/<row>/*.png        the images, if requested
OUT/control.md, .json           the tables
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cloisonne.eval.benchmark import CEILINGS, RoundTrip
from cloisonne.eval.control_cases import Case, MaskOf, Use, cases, fingerprint
from cloisonne.eval.control_tables import Results, summarise
from cloisonne.eval.items import Items, open_folder, save_picture, short
from cloisonne.eval.layouts import REFERENCE_SEED, scan
from cloisonne.eval.metrics.control import edge_figures, edges, variety
from cloisonne.eval.metrics.frechet import MIN_PICTURES
from cloisonne.eval.metrics.layouts import Judging, measure
from cloisonne.eval.row_names import CAPTION_ALONE as NONE
from cloisonne.scene import Scene
from cloisonne.scene.conditions.control import ControlKind

SEEDS = 8
"""Images per scene that are compared with each other."""

Generate = Callable[[Scene, str, int], np.ndarray]
"""(scene without seed, row, seed) -> image, uint8 RGB [128, 128, 3]."""
Make = Callable[[Case, int], np.ndarray]
"""(case, seed) -> image, uint8 RGB [128, 128, 3]."""

_REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class Row:
    """How a row uses its adapter; ``adapter`` is the hash of the adapter's files."""

    use: Use
    adapter: str


def evaluate_control(
    generate: Generate,
    judge: Judging,
    round_trip: RoundTrip,
    mask_of: MaskOf,
    out: Path,
    *,
    rows: Mapping[str, Row],
    kind: ControlKind = "canny",
    limit: int = 300,
    seed: int = 0,
    diversity: int = 0,
    about: Mapping[str, str | int | float] | None = None,
    save_pictures: bool = False,
    report: Callable[[str], None] = print,
) -> Results:
    """Measure the row without control, ``rows`` and the ceilings on the first ``limit`` scenes, and write the tables.

    Measurements already in ``out`` are reused: the same call resumes a stopped run, adds rows or raises the limit.
    Every row uses seed ``seed + layout.seed``. ``diversity``: number of scenes on which ``SEEDS`` seeds are generated
    and compared. ``about`` describes the model and the judge.

    Raises OutputError if the folder holds another run, and ValueError for a limit below 1 or no rows.
    """
    if limit < 1 or not rows:
        raise ValueError(f"limit is {limit} and there are {len(rows)} rows: at least one of each must be evaluated.")
    run = {"benchmark": "control-v1", "scenes": fingerprint(mask_of), "kind": kind, "seed": seed, **(about or {})}
    open_folder(out, run)
    described = {NONE: Row(use="none", adapter=""), **rows}
    makers = {name: _maker(generate, name, row, kind) for name, row in described.items()}
    ceilings: dict[str, Make] = {CEILINGS[0]: lambda case, seed: round_trip(case.truth)}
    ceilings[CEILINGS[1]] = lambda case, seed: case.truth
    folders = {name: _folder(out, name, vars(row)) for name, row in described.items()}
    folders |= {name: _folder(out, name, {}) for name in (*ceilings, _REFERENCE)}
    items = {name: Items(folder / "items.jsonl") for name, folder in folders.items()}
    apart = {name: Items(folders[name] / "variety.jsonl") for name in makers}
    chosen = list(cases(limit, mask_of))
    for case in chosen:
        at = seed + case.layout.seed
        known = all(case.index in items[name] for name in makers | ceilings)
        known &= case.index >= diversity or all(case.index in own for own in apart.values())
        for name, make in (makers | ceilings).items():
            if case.index not in items[name]:
                rgb = make(case, at)
                if save_pictures:
                    save_picture(rgb, out / "pictures" / name / f"{case.index:04d}.png")
                items[name].add(case.index, _item(rgb, case, judge))
        for name, make in makers.items():
            if case.index < diversity and case.index not in apart[name]:
                pictures = [make(case, at + k) for k in range(SEEDS)]
                apart[name].add(case.index, variety(pictures, case.mask, partial(_embedding, judge=judge)))
        if not known or case is chosen[-1]:
            report(f"{case.index + 1} of {limit} scenes")
    real = _real(items.pop(_REFERENCE), judge, limit)
    results = summarise(chosen, items, apart, real, baseline=NONE, first=next(iter(rows)), diversity=diversity)
    results.report().write(out, "control")
    return results


def _maker(generate: Generate, name: str, row: Row, kind: ControlKind) -> Make:
    return lambda case, seed: generate(case.scene(row.use, kind), name, seed)


def _folder(out: Path, name: str, about: Mapping[str, Any]) -> Path:
    folder = out / "rows" / name
    open_folder(folder, {"row": name, **about})
    return folder


def _item(rgb: np.ndarray, case: Case, judge: Judging) -> dict[str, Any]:
    seen = measure(rgb, case.layout.regions, judge)
    found = [region.somewhere for region in seen.regions]
    return {
        **edge_figures(edges(rgb), edges(case.truth), case.mask),
        "found_outside": [flag for flag, outside in zip(found, case.outside(), strict=True) if outside],
        "whole": short(seen.whole),
    }


def _embedding(rgb: np.ndarray, judge: Judging) -> Tensor:
    return measure(rgb, (), judge).whole


def _real(items: Items, judge: Judging, count: int) -> list[np.ndarray]:
    """Embeddings [1, D] of real images of other scenes; empty if they are too few for a distance."""
    if count < MIN_PICTURES:
        return []
    for layout in scan(count, REFERENCE_SEED):
        if layout.index not in items:
            items.add(layout.index, {"whole": short(_embedding(layout.truth().rgb, judge))})
    return [np.array([items[index]["whole"]]) for index in range(count)]
