"""Which loss on clean latents helps a control adapter: adapters of several losses and seeds, compared in pairs.

    python benchmarks/control_losses.py -o out
    python benchmarks/control_losses.py -o out --row plain --row sobel --scenes 20 --seeds 1 --steps 20

Each adapter goes on from the built-in canny adapter, for every row on the same images with the same noise. A row
"NAME-sobel" adds the Sobel loss to the denoising loss of NAME: "plain" is the error of the network's own prediction,
"epsilon" that of the noise, "snr" min-SNR weighting. See docs/results.md, localized control.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cloisonne.bench.control import control
from cloisonne.bench.settings import Settings
from cloisonne.eval.control_tables import MEASURES
from cloisonne.eval.items import Items
from cloisonne.eval.metrics.bootstrap import Sample, difference, mean
from cloisonne.eval.report import Report, Table, estimates
from cloisonne.eval.samples import Estimates, paired, sample
from cloisonne.models.builtin import BUILTIN

SOBEL = ("--x0_loss", "sobel", "--x0_weight", "1")
ROWS = {
    "plain": ("--x0_loss", "none"),
    "plain-sobel": (*SOBEL, "--x0_schedule", "time"),
    "epsilon": ("--x0_loss", "none", "--loss_weighting", "epsilon"),
    "epsilon-sobel": (*SOBEL, "--loss_weighting", "epsilon"),
    "snr": ("--x0_loss", "none", "--loss_weighting", "min_snr"),
    "snr-sobel": (*SOBEL, "--x0_schedule", "time", "--loss_weighting", "min_snr"),
}
"""Rows and their options of ``train control``."""
COMMON = (
    *("--kind", "canny", "--base", "builtin", "--data", "world", "--train_batch_size", "16"),
    *("--mixed_precision", "bf16", "--lr_scheduler", "linear", "--lr_warmup_steps", "20", "--learning_rate", "1e-3"),
    *("--use_ema", "--ema_decay", "0.98"),
)
COMPARED = {name: MEASURES[name] for name in ("f", "precision", "recall", "lfmse_in", "hallucination_in")}


def main() -> None:
    """Train what is missing, measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of adapters, measurements and tables")
    parser.add_argument("--row", action="append", choices=ROWS, help="rows; default: all")
    parser.add_argument("--scenes", type=int, default=100, help="scenes to measure on (100)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each row (3)")
    parser.add_argument("--steps", type=int, default=300, help="training steps of 16 images (300)")
    options = parser.parse_args()
    rows, seeds = options.row or list(ROWS), range(options.seeds)
    for seed in seeds:
        for row in rows:
            train(row, seed, options.steps, options.output / "adapters" / f"{row}-{seed}")
    adapters = [f"{row}-{seed}={options.output / 'adapters' / f'{row}-{seed}'}" for seed in seeds for row in rows]
    measured = options.output / "measured"
    control(Settings(out=measured, limit=options.scenes), rows=adapters)
    print(tables(measured, rows, len(seeds), options.scenes).write(options.output, "tables"))


def train(row: str, seed: int, steps: int, folder: Path) -> None:
    """Train the adapter of a row, unless it is finished. Raises CalledProcessError if that fails."""
    if (folder / "training.json").is_file():
        return
    given = ("--adapter", str(BUILTIN / "control-canny"), "--max_train_steps", str(steps), "--seed", str(seed))
    command = [sys.executable, "-m", "cloisonne", "train", "control", *COMMON, *given, *ROWS[row], "-o", str(folder)]
    subprocess.run(command, check=True)


def tables(measured: Path, rows: Sequence[str], seeds: int, scenes: int) -> Report:
    """The means of the rows over seeds and scenes, and their differences; seeds and scenes are resampled."""

    def samples(row: str) -> dict[str, Sample]:
        items = [Items(measured / "rows" / f"{row}-{seed}" / "items.jsonl") for seed in range(seeds)]
        factors = (np.repeat(np.arange(seeds), scenes), np.tile(np.arange(scenes), seeds))
        own = {name: [sample(one, range(scenes), name) for one in items] for name in COMPARED}
        return {name: _joined(parts, factors) for name, parts in own.items()}

    found = {row: samples(row) for row in rows}
    pairs = [(row, "plain") for row in rows if row != "plain" and "plain" in rows]
    pairs += [(row, row.removesuffix("-sobel")) for row in rows if row.endswith("-sobel") and row != "plain-sobel"]
    apart: dict[str, Estimates] = {
        f"{row} minus {first}": {name: difference(*paired(found[row][name], found[first][name])) for name in COMPARED}
        for row, first in pairs
        if first in rows
    }
    summary = f"n = {scenes} scenes, {seeds} trainings a row. Percent [95 % interval, bootstrapped over both]."
    means = {row: {name: mean(one) for name, one in own.items()} for row, own in found.items()}
    parts: list[str | Table] = [estimates("rows", summary, COMPARED, means)]
    if apart:
        parts.append(estimates("differences", "Paired by scene and seed:", COMPARED, apart))
    return Report(tuple(parts))


def _joined(parts: Sequence[Sample], factors: tuple[np.ndarray, ...]) -> Sample:
    return Sample(np.concatenate([one.totals for one in parts]), np.concatenate([one.counts for one in parts]), factors)


if __name__ == "__main__":
    main()
