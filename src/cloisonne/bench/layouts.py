"""Runs the layouts benchmark with this package's generator."""

from collections.abc import Sequence

import numpy as np

from cloisonne.bench.settings import Settings, methods_of, through_vae
from cloisonne.eval.benchmark import evaluate_layouts
from cloisonne.eval.judge import Judge
from cloisonne.models.builtin import BUILTIN
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene


def layouts(settings: Settings, *, methods: Sequence[str] | None = None) -> str:
    """``evaluate layouts``: the tables in markdown. methods: None means all that the model supports."""
    model, judge = settings.load(), Judge.load(BUILTIN / "judge")
    chosen = methods_of(model, methods, settings.report)

    def run(scene: Scene, method: str, seed: int) -> np.ndarray:
        return np.asarray(generate(scene.replace(method=method), model, seed=seed).image)

    keywords = settings.keywords(model)
    results = evaluate_layouts(run, judge, through_vae(model), settings.out, methods=chosen, **keywords)
    return results.report().markdown()
