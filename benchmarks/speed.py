"""``speed: fast``: time saved and what it costs, on layouts-v1 with the built-in family.

    python benchmarks/speed.py
    python benchmarks/speed.py --limit 40 --steps 20 --schedules 1:0 2:0 3:0.2 4:0.2

A schedule INTERVAL:WHOLE computes the deep layers in one of INTERVAL predictions, and in all of the first WHOLE of the
steps; 1:0 is ``exact``. For each layout all schedules generate one image of the same seed, one after the other; the
times are of the CPU for the sampling of the image, and the ratio is of their sums. Objects are judged as by
``cloisonne evaluate layouts``: success is the right class and colour, found in its box. The standard
error of a difference is of the paired differences of images. The difference of pixels from exact is in levels of 255.
"""

import argparse
import time
from collections.abc import Sequence
from statistics import mean, stdev

import numpy as np
import torch

from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan
from cloisonne.core.run import FAST, ReuseSchedule, Run
from cloisonne.core.sample import sample
from cloisonne.eval.judge import Judge
from cloisonne.eval.layouts import Layout, layouts
from cloisonne.eval.metrics.layouts import Measured, measure
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.finish import Finisher
from cloisonne.pipelines.prepare import prepare
from cloisonne.pipelines.starts import NoiseStart

DEFAULT = ("1:0", "2:0", "3:0", f"{FAST.interval}:{FAST.whole}", "4:0.2")
FIGURES = ("success", "class", "found")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=40, help="layouts, from the first (default: 40)")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps (default: 20)")
    parser.add_argument("--method", default="bounded", help="how phrases condition regions (default: bounded)")
    parser.add_argument("--schedules", nargs="+", default=DEFAULT, help="the first is compared with")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model, judge = load("builtin"), Judge.load(BUILTIN / "judge")
    seconds: dict[str, list[float]] = {name: [] for name in options.schedules}
    rows: dict[str, tuple[int, int]] = {}
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in options.schedules}
    levels: dict[str, list[float]] = {name: [] for name in options.schedules}
    for layout in layouts()[: options.limit]:
        first: np.ndarray | None = None
        for name in options.schedules:
            spent, rgb, run = drawn(layout, model, schedule_of(name), options.steps, options.method)
            first = rgb if first is None else first
            seconds[name].append(spent)
            rows[name] = (run.forwards, run.reused)
            figures[name].append(shares(measure(rgb, layout.regions, judge).regions))
            levels[name].append(float(np.abs(rgb.astype(int) - first).mean()))
    base = options.schedules[0]
    print(f"{options.limit} layouts, {options.steps} steps, method {options.method}")
    for name in options.schedules:
        parts = [f"{name:8} {sum(seconds[base]) / sum(seconds[name]):5.2f} x"]
        parts.append(f"{rows[name][1]:3} of {rows[name][0]} forwards reuse   pixels {mean(levels[name]):5.2f}")
        for figure in FIGURES:
            values = [one[figure] for one in figures[name]]
            changes = [value - one[figure] for value, one in zip(values, figures[base], strict=True)]
            error = stdev(changes) / len(changes) ** 0.5 if len(changes) > 1 else 0.0
            parts.append(f"{figure} {mean(values):6.1%} ({mean(changes):+.1%} +- {error:.1%})")
        print("   ".join(parts))


def schedule_of(text: str) -> ReuseSchedule:
    interval, _, whole = text.partition(":")
    return ReuseSchedule(interval=int(interval), whole=float(whole or 0))


def drawn(
    layout: Layout, model: Model, schedule: ReuseSchedule, steps: int, method: str
) -> tuple[float, np.ndarray, Run]:
    """Seconds of sampling, the image and the counts."""
    scene = layout.scene().replace(steps=steps, method=method, seed=layout.seed)
    prepared, run = prepare(scene, model), Run(reuse=schedule)
    noise = Noise([Seed(layout.seed, prepared.compiled.seeds)], (model.vae.channels, *prepared.grid), model.device)
    start = NoiseStart(prepared=prepared).start(noise, Plan())
    began = time.process_time()
    z = sample(start.plan, start.sampler, start.latents, prepared.steps, noise=noise, run=run)
    spent = time.process_time() - began
    return spent, np.asarray(Finisher(prepared=prepared, model=model).image(z[0])), run


def shares(regions: Sequence[Measured]) -> dict[str, float]:
    """Shares of an image's objects that are right."""
    return {
        "success": mean(region.found and region.crop and region.colour is not False for region in regions),
        "class": mean(region.crop for region in regions),
        "found": mean(region.found for region in regions),
    }


if __name__ == "__main__":
    main()
