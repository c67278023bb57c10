"""The layouts benchmark: each row generates the scenes of layouts-v1, and the judge measures the images.

OUT/run.json                the settings of the run; other settings are refused
OUT/items-<row>.jsonl       one line per scene, written when it is measured
OUT/pictures/<row>/*.png    the images, if requested
OUT/layouts.md, .json       the tables
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cloisonne.eval.items import Items, open_folder, save_picture, short
from cloisonne.eval.judge import COLOUR
from cloisonne.eval.layouts import REFERENCE_SEED, SHA256, Layout, layouts, scan
from cloisonne.eval.metrics.layouts import Judging, Seen, measure
from cloisonne.eval.row_names import CEILINGS as CEILINGS
from cloisonne.eval.row_names import METHODS as METHODS
from cloisonne.eval.tables import MEASURES, Results, summarise
from cloisonne.scene import Scene

Generate = Callable[[Scene, str, int], np.ndarray]
"""(scene without method and seed, method, seed) -> image, uint8 RGB [128, 128, 3]."""
RoundTrip = Callable[[np.ndarray], np.ndarray]
"""Encode and decode an image with the VAE; both uint8 RGB [128, 128, 3]."""

# Real images of other scenes for the Fréchet distances; not a row of the tables.
_REFERENCE = "reference"


def evaluate_layouts(
    generate: Generate,
    judge: Judging,
    round_trip: RoundTrip,
    out: Path,
    *,
    methods: Sequence[str] = METHODS,
    limit: int | None = None,
    seed: int = 0,
    about: Mapping[str, str | int | float] | None = None,
    save_pictures: bool = False,
    report: Callable[[str], None] = print,
) -> Results:
    """Measure ``methods`` and the ceilings on the first ``limit`` layouts (None: all), and write the tables.

    Measurements already in ``out`` are reused: the same call resumes a stopped run, adds methods or raises the limit.
    Every row uses seed ``seed + layout.seed``. ``about`` describes the models
    (hashes, steps, guidance, device); with the seed and the list's hash it must be the same when a run is resumed.
    The rows advance together, scene by scene, so a stopped run is complete up to a smaller limit.

    Raises OutputError if the folder holds another run, and ValueError for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: at least one layout must be evaluated.")
    fixed = {"benchmark": "layouts-v1", "layouts": SHA256, "measures": " ".join(MEASURES), "colour": COLOUR}
    open_folder(out, {**fixed, "seed": seed, **(about or {})})
    chosen = layouts()[:limit]
    makers = {method: _method(generate, method, seed) for method in methods}
    makers |= {"truth-vae": lambda layout: round_trip(_truth(layout)), "truth": _truth}
    rows = {row: Items(out / f"items-{row}.jsonl") for row in (*makers, _REFERENCE)}
    references = tuple(scan(len(chosen), REFERENCE_SEED))
    for layout, reference in zip(chosen, references, strict=True):
        known = all(layout.index in rows[row] for row in makers) and reference.index in rows[_REFERENCE]
        for row, make in makers.items():
            if layout.index not in rows[row]:
                rgb = make(layout)
                if save_pictures:
                    save_picture(rgb, out / "pictures" / row / f"{layout.index:04d}.png")
                rows[row].add(layout.index, _item(measure(rgb, layout.regions, judge)))
        if reference.index not in rows[_REFERENCE]:
            seen = measure(_truth(reference), reference.regions, judge)
            rows[_REFERENCE].add(reference.index, _item(seen))
        if not known or layout is chosen[-1]:
            report(f"{layout.index + 1} of {len(chosen)} layouts")
    results = summarise(chosen, references, {row: rows[row] for row in makers}, rows[_REFERENCE])
    results.report().write(out, "layouts")
    return results


def _method(generate: Generate, method: str, seed: int) -> Callable[[Layout], np.ndarray]:
    """The generator of a method; ``caption`` names the objects in the prompt, the others in regions."""

    def run(layout: Layout) -> np.ndarray:
        scene = layout.captioned() if method == "caption" else layout.scene()
        return generate(scene, method, seed + layout.seed)

    return run


def _truth(layout: Layout) -> np.ndarray:
    return layout.truth().rgb


def _item(seen: Seen) -> dict[str, Any]:
    regions = [{**vars(region), "found": region.found} for region in seen.regions]
    crops = [short(crop) for crop in seen.crops]
    return {"regions": regions, "natural": seen.natural, "whole": short(seen.whole), "crops": crops}
