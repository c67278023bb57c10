"""Objects at four times the native area: in two passes (``hires``), by windows, and drawn directly; and in panoramas.

    python benchmarks/hires.py
    python benchmarks/hires.py --limit 30 --save images

The first layouts of layouts-v1 with the built-in family, at 256 x 256 pixels. Panoramas have two layouts side by side,
at 256 x 128 pixels. Surplus objects are those beyond one in each box (``cloisonne.eval.metrics.surplus``), first in
the image reduced to the judge's size, then by windows of that size. "Found" is the share of the asked objects with one
of their class in their box, at the judge's size. "True images" are the rendered images of the layouts: what the counts
are where nothing is repeated. The row without dilation is ``hires`` as it was before: neither dilated, nor held to the
first pass. Seconds are of the CPU, for an image.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from unittest.mock import patch

import cv2
import numpy as np
import torch
from PIL import Image

from cloisonne.core.refines import Coarse
from cloisonne.core.step import Interval
from cloisonne.eval.judge import SIZE, Judge
from cloisonne.eval.layouts import Layout, Wanted, layouts
from cloisonne.eval.metrics.layouts import measure
from cloisonne.eval.metrics.surplus import surplus
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.large import hires
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.world.draw import draw

Figures = tuple[float, float, float, float]
"""Surplus objects in the whole image and by windows, the share found, and seconds."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=30, help="layouts, from the first (default: 30)")
    parser.add_argument("--strength", type=float, default=0.5, help="of the second pass (default: 0.5)")
    parser.add_argument("--method", default="reco", help="how phrases condition regions (default: reco)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="default: all")
    parser.add_argument("--save", type=Path, help="folder for the images")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model, judge = load("builtin"), Judge.load(BUILTIN / "judge")
    found: dict[str, list[Figures]] = {row: [] for row in options.rows}
    for layout, right in zip(layouts()[: options.limit], layouts()[1:], strict=False):
        for row in options.rows:
            regions = panorama(layout, right) if row.startswith("panorama") else layout.regions
            fields = {"method": options.method, "seed": layout.seed, **sized(regions is layout.regions)}
            scene = Scene(
                caption=layout.caption, regions=[Region(box=own.box, phrase=own.phrase) for own in regions], **fields
            )
            began = time.process_time()
            image = ROWS[row](layout, scene, model, options.strength)
            spent = time.process_time() - began
            found[row].append((*judged(np.asarray(image.convert("RGB")), regions, judge), spent))
            if options.save is not None:
                options.save.mkdir(parents=True, exist_ok=True)
                image.save(options.save / f"{layout.index:04d} {row}.png")
    print(f"{options.limit} layouts, method {options.method}, strength {options.strength:g}")
    for row, values in found.items():
        whole, windows, placed, spent = (mean(value) for value in zip(*values, strict=True))
        print(f"{row:24} surplus {whole:5.2f} whole {windows:5.2f} windows   found {placed:6.1%}   {spent:6.2f} s")


def sized(square: bool) -> dict[str, int]:
    return {"width": 2 * SIZE, "height": 2 * SIZE if square else SIZE}


def panorama(left: Layout, right: Layout) -> tuple[Wanted, ...]:
    """The objects of two layouts side by side, each as large as in its own image."""

    def moved(own: Wanted, by: float) -> Wanted:
        x0, y0, x1, y1 = own.box
        return replace(own, box=(x0 / 2 + by, y0, x1 / 2 + by, y1))

    return (*(moved(own, 0) for own in left.regions), *(moved(own, 0.5) for own in right.regions))


def judged(rgb: np.ndarray, regions: Sequence[Wanted], judge: Judge) -> tuple[float, float, float]:
    """Surplus objects, twice, and the share of objects that are found."""
    more = surplus(rgb, [own.box for own in regions], judge)
    parts = [(rgb, regions)]
    if rgb.shape[1] > rgb.shape[0]:  # the judge is of square images
        half = rgb.shape[1] // 2
        parts = [
            (rgb[:, side * half : (side + 1) * half], [moved for own in regions if (moved := inside(own, side))])
            for side in (0, 1)
        ]
    seen = [region for pixels, own in parts for region in measure(reduced(pixels), own, judge).regions]
    return float(more.whole), float(more.windows), mean(region.found for region in seen)


def inside(own: Wanted, side: int) -> Wanted | None:
    """An object in the left (0) or right (1) half of a panorama, None in the other."""
    x0, y0, x1, y1 = own.box
    if (x0 + x1 > 1) != bool(side):
        return None
    return replace(own, box=(2 * x0 - side, y0, 2 * x1 - side, y1))


def reduced(rgb: np.ndarray) -> np.ndarray:
    return cv2.resize(rgb, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def true_image(layout: Layout, scene: Scene, model: Model, strength: float) -> Image.Image:
    return Image.fromarray(draw(layout.truth().picture, 2 * SIZE, 2 * SIZE).rgb)


def native(layout: Layout, scene: Scene, model: Model, strength: float) -> Image.Image:
    """At the native size, enlarged."""
    image = generate(scene.replace(width=SIZE, height=SIZE), model).image
    return image.resize((2 * SIZE, 2 * SIZE), Image.Resampling.LANCZOS)


def directly(layout: Layout, scene: Scene, model: Model, strength: float) -> Image.Image:
    return generate(scene, model).image


def by_windows(layout: Layout, scene: Scene, model: Model, strength: float) -> Image.Image:
    return generate(scene.replace(windows=0.5), model).image


def in_two_passes(layout: Layout, scene: Scene, model: Model, strength: float) -> Image.Image:
    small = scene.replace(width=SIZE, height=SIZE, hires={"scale": 2.0, "strength": strength})
    return generate(small, model).image


def undilated(layout: Layout, scene: Scene, model: Model, strength: float) -> Image.Image:
    """``hires`` whose network is not dilated, and which is not held to the first pass."""
    free = partial(Coarse, when=Interval(0, 0))
    with patch.object(hires, "Coarse", free), patch.object(hires, "_net", lambda net, scale: net):
        return in_two_passes(layout, scene, model, strength)


def two_passes_by_windows(layout: Layout, scene: Scene, model: Model, strength: float) -> Image.Image:
    return in_two_passes(layout, scene.replace(windows=0.5), model, strength)


ROWS: Mapping[str, Callable[[Layout, Scene, Model, float], Image.Image]] = {
    "true images": true_image,
    "native, enlarged": native,
    "directly": directly,
    "by windows": by_windows,
    "hires without dilation": undilated,
    "hires": in_two_passes,
    "hires by windows": two_passes_by_windows,
    "panorama, directly": directly,
    "panorama by windows": by_windows,
}


if __name__ == "__main__":
    main()
