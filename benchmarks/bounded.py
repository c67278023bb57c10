"""The dials of the method bounded on layouts-v1, against the methods without.

    python benchmarks/bounded.py -o out --limit 163
    python benchmarks/bounded.py -o out --limit 50 --boost 20 100 300 1000

One row for each boost, with and without place words; tables as of ``cloisonne
evaluate layouts``, with differences to the first row paired by scene. A folder
keeps what is measured: the same command goes on where it was stopped.
"""

import argparse
from pathlib import Path

import numpy as np

from cloisonne.bench.layouts import facts, through_vae
from cloisonne.eval.benchmark import evaluate_layouts
from cloisonne.eval.judge import Judge
from cloisonne.methods import METHODS
from cloisonne.methods.base import Method
from cloisonne.methods.bounded import BOOST, Bounded
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene

PLAIN = ("words", "attention")
"""Rows without token biases."""


def rows(boosts: list[float]) -> dict[str, Method]:
    """The methods to measure, by the name of their row."""
    found: dict[str, Method] = {}
    for boost in boosts:
        found[f"bounded {boost:g}"] = Bounded(boost=boost)
        found[f"bounded-words {boost:g}"] = Bounded(boost=boost, place_words=True)
    return found | {name: METHODS[name] for name in PLAIN}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for measurements and tables")
    parser.add_argument("--model", default="builtin", help='"builtin" or a diffusers folder')
    parser.add_argument("--boost", type=float, nargs="+", default=[BOOST], help="boosts to measure")
    parser.add_argument("--limit", type=int, default=None, help="number of scenes, from the first")
    parser.add_argument("--save-pictures", action="store_true", help="also write the images")
    given = parser.parse_args()
    model, judge, methods = load(given.model), Judge.load(BUILTIN / "judge"), rows(given.boost)

    def run(scene: Scene, name: str, seed: int) -> np.ndarray:
        METHODS["bounded"] = methods[name]
        return np.asarray(generate(scene.replace(method="bounded"), model, seed=seed).image)

    results = evaluate_layouts(
        run,
        judge,
        through_vae(model),
        given.output,
        methods=tuple(methods),
        limit=given.limit,
        about=facts(model),
        save_pictures=given.save_pictures,
    )
    print(results.markdown())


if __name__ == "__main__":
    main()
