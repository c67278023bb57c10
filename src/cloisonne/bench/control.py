"""Runs the control benchmark with this package's generator."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cloisonne.bench.arguments import check_control, control_rows
from cloisonne.bench.settings import Settings, through_vae
from cloisonne.errors import CapabilityError
from cloisonne.eval.control import NONE, Row, evaluate_control
from cloisonne.eval.judge import SIZE, Judge
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene
from cloisonne.train.control.masks import training_mask

OWN = "own"
"""The row of the model's own adapter."""


def control(settings: Settings, *, kind: str = "canny", rows: Sequence[str] | None = None, diversity: int = 0) -> str:
    """``evaluate control``: the tables in markdown; see ``eval.control``.

    rows: see ``arguments.control_rows``; None measures the model's own adapter, masked. All rows share the networks of
    the model; each has its own adapter.
    """
    check_control(kind, rows)
    specs = control_rows(rows or ())
    base, judge = settings.load(), Judge.load(BUILTIN / "judge")
    if not specs and kind not in base.adapters:
        raise CapabilityError(f'"{base.name}" has no {kind} adapter; give one to measure, as in --row NAME=FOLDER.')
    plain = replace(base, adapters={})
    models = {NONE: plain, **{row.name: _with(base, settings, row.adapter, kind) for row in specs}}
    described = {row.name: Row(use=row.use, adapter=models[row.name].hash) for row in specs}
    if not specs:
        models[OWN], described = base, {OWN: Row(use="masked", adapter=base.hash)}

    def run(scene: Scene, row: str, seed: int) -> np.ndarray:
        return np.asarray(generate(scene, models[row], seed=seed).image)

    results = evaluate_control(
        run,
        judge,
        through_vae(base),
        _mask_of,
        settings.out,
        rows=described,
        kind=cast(Any, kind),
        diversity=diversity,
        **settings.keywords(base),
    )
    return results.report().markdown()


def _with(base: Model, settings: Settings, adapter: Path, kind: str) -> Model:
    """``base`` with this adapter; the other networks are shared."""
    loaded = settings.load(adapters={kind: adapter})
    own = {found: one for found, one in loaded.adapters.items() if found == kind}
    return replace(base, adapters=own, controlnets=loaded.controlnets, files=loaded.files)


def _mask_of(rng: np.random.Generator) -> NDArray[np.float32]:
    return training_mask("bbox", SIZE, rng)
