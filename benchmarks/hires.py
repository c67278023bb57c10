"""Objects at four times the native area: drawn directly, by windows, and in two passes (``hires``).

    python benchmarks/hires.py
    python benchmarks/hires.py --limit 20 --strength 0.5

The first layouts of layouts-v1 with the built-in family, at 256 x 256 pixels. The judge looks at the images at its own
size. Surplus objects are separate objects of any class beyond those that were asked for; "found" is the share of these
with one of their class in their box. Seconds are of the CPU, for an image.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from cloisonne.eval.judge import Judge
from cloisonne.eval.layouts import layouts
from cloisonne.eval.metrics.layouts import MIN_AREA, measure
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=20, help="layouts, from the first (default: 20)")
    parser.add_argument("--strength", type=float, default=0.5, help="of the second pass (default: 0.5)")
    parser.add_argument("--save", type=Path, help="folder for the images")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model, judge = load("builtin"), Judge.load(BUILTIN / "judge")
    side = 2 * model.native.width
    hires = {"scale": 2.0, "strength": options.strength}
    rows = {
        "native size": {},
        "directly": {"width": side, "height": side},
        "by windows": {"width": side, "height": side, "windows": 0.5},
        "hires": {"hires": hires},
        "hires by windows": {"hires": hires, "windows": 0.5},
    }
    found: dict[str, list[tuple[float, float, float]]] = {row: [] for row in rows}
    for layout in layouts()[: options.limit]:
        scene = layout.scene().replace(method="bounded", width=None, height=None, seed=layout.seed)
        for row, fields in rows.items():
            began = time.process_time()
            image = generate(scene.replace(**fields), model).image
            spent = time.process_time() - began
            small = np.asarray(image.convert("RGB").resize((model.native.width,) * 2, Image.Resampling.LANCZOS))
            more = objects(small, judge) - len(layout.regions)
            own = measure(small, layout.regions, judge).regions
            found[row].append((max(more, 0), mean(region.found for region in own), spent))
            if options.save is not None:
                options.save.mkdir(parents=True, exist_ok=True)
                image.save(options.save / f"{layout.index:04d} {row}.png")
    print(f"{options.limit} layouts at {side} x {side} pixels, strength {options.strength:g}")
    for row, values in found.items():
        more, placed, spent = (mean(value) for value in zip(*values, strict=True))
        print(f"{row:18} surplus objects {more:5.2f} an image   found {placed:6.1%}   {spent:6.2f} s")


def objects(rgb: np.ndarray, judge: Judge) -> int:
    """How many separate objects of any class the judge sees."""
    with torch.no_grad():
        pixels = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        classes = judge(pixels).classes[0].softmax(0)
    likely = F.interpolate(1 - classes[:1][None], size=rgb.shape[:2], mode="bilinear", align_corners=False)[0, 0]
    _, _, pieces, _ = cv2.connectedComponentsWithStats((likely > 0.5).numpy().astype(np.uint8), connectivity=8)
    return sum(piece[cv2.CC_STAT_AREA] >= MIN_AREA * likely.numel() for piece in pieces[1:].tolist())


if __name__ == "__main__":
    main()
