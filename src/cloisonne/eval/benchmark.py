"""The layouts benchmark: every row draws the scenes of layouts-v1, the judge measures, and tables come out.

OUT/run.json                what was run; another run is refused
OUT/items-<row>.jsonl       one line a scene, written as it is measured
OUT/pictures/<row>/*.png    the pictures, if asked for
OUT/layouts.md, .json       the tables
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cloisonne.eval.items import Items, open_folder, save_picture, short, write_whole
from cloisonne.eval.layouts import REFERENCE_SEED, SHA256, Layout, layouts, scan
from cloisonne.eval.metrics.layouts import Judging, Seen, measure
from cloisonne.eval.row_names import CEILINGS as CEILINGS
from cloisonne.eval.row_names import METHODS as METHODS
from cloisonne.eval.tables import Results, summarise
from cloisonne.scene import Scene

Generate = Callable[[Scene, str, int], np.ndarray]
"""(scene without method and seed, method, seed) -> picture, uint8 RGB [128, 128, 3]."""
RoundTrip = Callable[[np.ndarray], np.ndarray]
"""A picture through the VAE and back, both uint8 RGB [128, 128, 3]."""

# Real pictures of other scenes: the far side of the Fréchet distances, not a row of the tables.
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
    """Measure ``methods`` and the ceilings on the first ``limit`` layouts (all without), and write the tables.

    What is already in ``out`` is kept, so the same call continues a run that was stopped, adds methods or raises the
    limit. The picture of a layout has seed ``seed + layout.seed`` in every row. ``about`` describes the models
    (hashes, steps, guidance, device); with the seed and the list's hash it must be the same when a run is continued.
    The rows advance together, scene by scene: a run that was stopped has its tables at a smaller limit.

    Raises OutputError for a folder that holds another run, and ValueError for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}: at least one layout must be evaluated.")
    open_folder(out, {"benchmark": "layouts-v1", "layouts": SHA256, "seed": seed, **(about or {})})
    chosen = layouts()[:limit]
    drawing = {method: _method(generate, method, seed) for method in methods}
    drawing |= {"truth-vae": lambda layout: round_trip(_truth(layout)), "truth": _truth}
    rows = {row: Items(out / f"items-{row}.jsonl") for row in (*drawing, _REFERENCE)}
    references = tuple(scan(len(chosen), REFERENCE_SEED))
    for layout, reference in zip(chosen, references, strict=True):
        known = all(layout.index in rows[row] for row in drawing) and reference.index in rows[_REFERENCE]
        for row, draw_row in drawing.items():
            if layout.index not in rows[row]:
                rgb = draw_row(layout)
                if save_pictures:
                    save_picture(rgb, out / "pictures" / row / f"{layout.index:04d}.png")
                rows[row].add(layout.index, _item(measure(rgb, layout.regions, judge)))
        if reference.index not in rows[_REFERENCE]:
            seen = measure(_truth(reference), reference.regions, judge)
            rows[_REFERENCE].add(reference.index, _item(seen))
        if not known or layout is chosen[-1]:
            report(f"{layout.index + 1} of {len(chosen)} layouts")
    results = summarise(chosen, references, {row: rows[row] for row in drawing}, rows[_REFERENCE])
    write_whole(out / "layouts.json", results.json())
    write_whole(out / "layouts.md", results.markdown())
    return results


def _method(generate: Generate, method: str, seed: int) -> Callable[[Layout], np.ndarray]:
    """How a method's row draws a layout; ``caption`` is told the objects in words, the others in regions."""

    def drawn(layout: Layout) -> np.ndarray:
        scene = layout.captioned() if method == "caption" else layout.scene()
        return generate(scene, method, seed + layout.seed)

    return drawn


def _truth(layout: Layout) -> np.ndarray:
    return layout.truth().rgb


def _item(seen: Seen) -> dict[str, Any]:
    regions = [{**vars(region), "found": region.found} for region in seen.regions]
    return {"regions": regions, "whole": short(seen.whole), "crops": [short(crop) for crop in seen.crops]}
