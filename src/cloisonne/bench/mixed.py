"""The benchmark of mixed scenes with our own generator in the chair of what is measured."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cloisonne.bench.layouts import facts
from cloisonne.eval.judge import Judge
from cloisonne.eval.mixed import Drawn, evaluate_mixed
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.capabilities import check
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
    """``evaluate mixed``: the tables, in markdown. Raises CapabilityError where the model lacks a kind of condition."""
    model = load(source, device=device)
    check("exemplar", model)
    check("control", model, kind="canny")

    def drawn(scene: Scene, seed: int) -> Drawn:
        made = generate(scene, model, seed=seed)
        told = made.report
        rgb = np.asarray(made.image.convert("RGB"), np.uint8)
        return Drawn(rgb=rgb, rows=told["rows"], calls=told["forwards"], seconds=told["seconds"])

    return evaluate_mixed(
        drawn,
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
