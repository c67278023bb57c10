"""Images per second in training the base and in drawing its images.

    python benchmarks/training.py

Each row takes whole steps (batch, captions, forward, backward, optimiser) on
stored latents; the first step is not counted. `split` divides every operator
between the cores, `parts` gives each core a part of the batch. Drawing is of
the base's images, in one process and in one per core. Run it on an idle
machine: rows are comparable within one run only.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from cloisonne.models.builtin import BUILTIN
from cloisonne.models.vae import Vae
from cloisonne.train.base import networks as base
from cloisonne.train.base import stage as base_stage
from cloisonne.train.base.latents import LatentStore, fill
from cloisonne.train.base.recipe import RECIPE, BaseRecipe
from cloisonne.train.builtin import family
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.microbatches import Microbatches
from cloisonne.train.optimiser import Mixed
from cloisonne.train.precision import precision
from cloisonne.world.draw import draw
from cloisonne.world.picture import sample

STORED = 960


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="time of each row in seconds (default: 20)")
    parser.add_argument(
        "--rate", action="store_true", help="only the operations of one thread, of the rate of matrix products"
    )
    options = parser.parse_args()
    if options.rate:
        _rate(options.seconds)
        return
    cores = torch.get_num_threads()
    print(f"{cores} threads\n\n| row | batch | images/s | relative to the first |\n|---|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        stores = _stores(Path(folder))
        first = 0.0
        for row, parts, recipe in (
            ("split", 1, replace(RECIPE, batch=32, half=0.0)),
            ("split", 1, replace(RECIPE, batch=96, half=0.0)),
            ("parts", cores, replace(RECIPE, batch=32, half=0.0)),
            ("parts", cores, replace(RECIPE, batch=96, half=0.0)),
            ("parts, half the canvas", cores, replace(RECIPE, batch=32, half=1.0)),
            ("parts, half the canvas", cores, replace(RECIPE, batch=96, half=1.0)),
        ):
            speed = _training(stores, recipe, parts, options.seconds)
            first = first or speed
            print(f"| {row} | {recipe.batch} | {speed:.1f} | {speed / first:.2f} |", flush=True)
    print("\n| drawing | images/s |\n|---|---:|")
    for workers in sorted({1, os.cpu_count() or 1}):
        print(f"| {workers} processes | {_drawing(workers, options.seconds):.0f} |", flush=True)


def _rate(seconds: float) -> None:
    """Print the floating-point operations of one thread a second, and their share of the rate of matrix products."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        stores, recipe = _stores(Path(folder)), replace(RECIPE, batch=32, half=0.0)
        with FlopCounterMode(display=False) as counter:
            _training(stores, recipe, 1, 0.0, clock=time.process_time)
        of_image = counter.get_total_flops() / 2 / recipe.batch / 1e9
        speed = _training(stores, recipe, 1, seconds, clock=time.process_time)
    found = precision("cpu")
    print(found)
    most = max(found.float32, found.bfloat16)
    print(f"{speed:.1f} images/s, {of_image:.1f} GFLOP each: {speed * of_image / most:.2f} of the rate of products")


def _stores(folder: Path) -> tuple[LatentStore, LatentStore]:
    vae = Vae(base.load_autoencoder(BUILTIN / "vae"))
    stores = tuple(LatentStore(folder / str(side), family.RECIPE, (8, side, side), STORED) for side in (16, 8))
    for store in stores:
        fill(store, vae, STORED, report=lambda line: None)
    return stores[0], stores[1]


def _training(
    stores: tuple[LatentStore, LatentStore],
    recipe: BaseRecipe,
    parts: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Images per second by a clock, after a first step that is not counted."""
    words = base.load_tokenizer(BUILTIN / "tokenizer")
    torch.manual_seed(0)
    text, unet = base.build_text(words), base.build_unet()
    stage = base_stage.stage(text, unet, words, stores[0], 1.0, recipe=recipe, half=stores[1], parts=parts)
    named = [(f"{m}.{n}", p) for m, module in stage.modules.items() for n, p in module.named_parameters()]
    optimiser = Mixed(named, lr=stage.lr, outer=stage.outer, muon=stage.muon)
    with Microbatches(stage.losses, [p for _, p in named]) as work:
        step, began = 0, clock()
        while step < 2 or clock() - began < seconds:
            work.backward(step, 0.0)
            optimiser.step(1.0, run=work.map)
            step += 1
            if step == 1:
                began = clock()
        return (step - 1) * recipe.batch / (clock() - began)


def _drawing(workers: int, seconds: float) -> float:
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        list(pool.map(_draw, [(0.0, k) for k in range(workers)]))
        return sum(pool.map(_draw, [(seconds, k) for k in range(workers)]))


def _draw(work: tuple[float, int]) -> float:
    """Images per second of one process."""
    seconds, which = work
    count, began = 0, time.perf_counter()
    while count < 48 or time.perf_counter() - began < seconds:
        draw(sample(TRAINING_SEEDS + (which << 20) + count, family.RECIPE))
        count += 1
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
