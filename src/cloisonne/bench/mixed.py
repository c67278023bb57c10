"""Runs the benchmark of mixed scenes with this package's generator."""

import numpy as np

from cloisonne.bench.settings import Settings
from cloisonne.eval.judge import Judge
from cloisonne.eval.mixed import Generated, evaluate_mixed
from cloisonne.methods.kinds import check
from cloisonne.models.builtin import BUILTIN
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene


def mixed(settings: Settings, *, given: bool = False, together: bool = True) -> str:
    """``evaluate mixed``: the tables in markdown. Raises CapabilityError if the model lacks a kind of condition."""
    model = settings.load()
    check("exemplar", model)
    check("control", model, kind="canny")

    def run(scene: Scene, seed: int) -> Generated:
        made = generate(scene, model, seed=seed)
        costs = made.report
        rgb = np.asarray(made.image.convert("RGB"), np.uint8)
        return Generated(rgb=rgb, rows=costs["rows"], calls=costs["forwards"], seconds=costs["seconds"])

    judge, keywords = Judge.load(BUILTIN / "judge"), settings.keywords(model)
    return evaluate_mixed(run, judge, settings.out, given=given, together=together, **keywords)
