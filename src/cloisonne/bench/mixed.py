"""Runs the benchmark of mixed scenes with this package's generator."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cloisonne.bench.layouts import facts
from cloisonne.eval.judge import Judge
from cloisonne.eval.mixed import Generated, evaluate_mixed
from cloisonne.methods.kinds import check
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene


def mixed(
    out: Path,
    source: str,
    *,
    limit: int,
    given: bool,
    together: bool,
    seed: int,
    device: str,
    save_pictures: bool,
    report: Callable[[str], None] = print,
) -> str:
    """``evaluate mixed``: the tables in markdown. Raises CapabilityError if the model lacks a kind of condition."""
    model = load(source, device=device)
    check("exemplar", model)
    check("control", model, kind="canny")

    def run(scene: Scene, seed: int) -> Generated:
        made = generate(scene, model, seed=seed)
        costs = made.report
        rgb = np.asarray(made.image.convert("RGB"), np.uint8)
        return Generated(rgb=rgb, rows=costs["rows"], calls=costs["forwards"], seconds=costs["seconds"])

    return evaluate_mixed(
        run,
        Judge.load(BUILTIN / "judge"),
        out,
        limit=limit,
        given=given,
        together=together,
        seed=seed,
        about=facts(model),
        save_pictures=save_pictures,
        report=report,
    )
