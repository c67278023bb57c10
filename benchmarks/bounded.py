"""The boost of the method bounded on layouts-v1, against methods without a boost.

    python benchmarks/bounded.py -o out --limit 163
    python benchmarks/bounded.py -o out --limit 50 --boost 100 300 1000 5000
    python benchmarks/bounded.py -o out --limit 50 --repeats 1 2 3
    python benchmarks/bounded.py --sheet docs/images/regions-by-method.png

One row for each boost and number of times that a phrase stands in its text,
with and without place words; tables as of ``cloisonne evaluate layouts``, with
differences to the first row paired by scene. A folder keeps what is measured:
the same command goes on where it was stopped. The sheet shows the same scenes
by every method, with the regions' boxes.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cloisonne.bench.settings import Settings, through_vae
from cloisonne.eval.benchmark import evaluate_layouts
from cloisonne.eval.judge import Judge
from cloisonne.eval.layouts import CANVAS, Layout, layouts
from cloisonne.methods import METHODS
from cloisonne.methods.base import Method
from cloisonne.methods.bounded import BOOST, REPEATS, Bounded
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene

PLAIN = ("words", "attention")
"""Rows without a boost."""

SHEET = ("caption", "words", "attention", "multidiffusion", "bounded", "bounded-words", "reco")
"""The rows of the sheet, from top to bottom."""
MARGIN = 96
"""Width of the sheet's column of names, in pixels."""


def rows(boosts: list[float], repeats: list[int]) -> dict[str, Method]:
    """The methods to measure, by the name of their row."""
    found: dict[str, Method] = {}
    for boost, times in product(boosts, repeats):
        for name, place_words in (("bounded", False), ("bounded-words", True)):
            found[f"{name} {boost:g} x{times}"] = Bounded(boost=boost, repeats=times, place_words=place_words)
    return found | {name: METHODS[name] for name in PLAIN}


def sheet(model: Model, chosen: list[Layout]) -> Image.Image:
    """A column for each layout, a row for each method of ``SHEET``."""
    out = Image.new("RGB", (MARGIN + CANVAS * len(chosen), CANVAS * len(SHEET)), "white")
    draw = ImageDraw.Draw(out)
    for row, method in enumerate(SHEET):
        draw.text((4, row * CANVAS + CANVAS // 2), method, fill="black")
        for column, layout in enumerate(chosen):
            scene = layout.captioned() if method == "caption" else layout.scene()
            image = generate(scene.replace(method=method), model, seed=layout.seed).image
            x, y = MARGIN + column * CANVAS, row * CANVAS
            out.paste(image, (x, y))
            for region in layout.regions:
                left, top, right, bottom = (v * CANVAS for v in region.box)
                draw.rectangle((x + left, y + top, x + right - 1, y + bottom - 1), outline="magenta")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="folder for measurements and tables")
    parser.add_argument("--model", default="builtin", help='"builtin" or a diffusers folder')
    parser.add_argument("--boost", type=float, nargs="+", default=[BOOST], help="boosts to measure")
    parser.add_argument("--repeats", type=int, nargs="+", default=[REPEATS], help="how often a phrase stands")
    parser.add_argument("--limit", type=int, default=None, help="number of scenes, from the first")
    parser.add_argument("--save-pictures", action="store_true", help="also write the images")
    parser.add_argument("--sheet", type=Path, help="write the sheet to this file, and measure nothing")
    parser.add_argument("--scenes", type=int, default=6, help="number of scenes with several regions on the sheet")
    given = parser.parse_args()
    model = load(given.model)
    if given.sheet:
        several = [layout for layout in layouts() if len(layout.regions) > 1 and not layout.held_out]
        sheet(model, several[: given.scenes]).save(given.sheet, optimize=True)
        return
    if given.output is None:
        parser.error("give -o FOLDER or --sheet FILE")
    judge, methods = Judge.load(BUILTIN / "judge"), rows(given.boost, given.repeats)

    def run(scene: Scene, name: str, seed: int) -> np.ndarray:
        METHODS["bounded"] = methods[name]
        return np.asarray(generate(scene.replace(method="bounded"), model, seed=seed).image)

    settings = Settings(out=given.output, model=given.model, limit=given.limit, save_pictures=given.save_pictures)
    keywords = settings.keywords(model)
    results = evaluate_layouts(run, judge, through_vae(model), given.output, methods=tuple(methods), **keywords)
    print(results.report().markdown())


if __name__ == "__main__":
    main()
