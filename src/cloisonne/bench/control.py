"""Runs the control benchmark with this package's generator."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cloisonne.bench.arguments import check_control, control_rows
from cloisonne.bench.layouts import facts, through_vae
from cloisonne.errors import CapabilityError
from cloisonne.eval.control import NONE, Row, evaluate_control
from cloisonne.eval.control_tables import Results
from cloisonne.eval.judge import SIZE, Judge
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene
from cloisonne.train.control.masks import training_mask

OWN = "own"
"""The row of the model's own adapter."""


def control(
    out: Path,
    source: str,
    *,
    kind: str,
    rows: Sequence[str] | None,
    limit: int,
    seed: int,
    device: str,
    diversity: int,
    save_pictures: bool,
    report: Callable[[str], None] = print,
) -> Results:
    """``evaluate control``: generate images with control adapters and measure their edges; see ``eval.control``.

    rows: see ``arguments.control_rows``; None measures the model's own adapter, masked. All rows share the networks of
    the model; each has its own adapter.
    """
    check_control(kind, rows)
    specs = control_rows(rows or ())
    base, judge = load(source, device=device), Judge.load(BUILTIN / "judge")
    if not specs and kind not in base.adapters:
        raise CapabilityError(f'"{base.name}" has no {kind} adapter; give one to measure, as in --row NAME=FOLDER.')
    plain = replace(base, adapters={})
    models = {NONE: plain, **{row.name: _with(base, row.adapter, source, kind, device) for row in specs}}
    described = {row.name: Row(use=row.use, adapter=models[row.name].hash) for row in specs}
    if not specs:
        models[OWN], described = base, {OWN: Row(use="masked", adapter=base.hash)}

    def run(scene: Scene, row: str, seed: int) -> np.ndarray:
        return np.asarray(generate(scene, models[row], seed=seed).image)

    return evaluate_control(
        run,
        judge,
        through_vae(base),
        _mask_of,
        out,
        rows=described,
        kind=cast(Any, kind),
        limit=limit,
        seed=seed,
        diversity=diversity,
        about=facts(base),
        save_pictures=save_pictures,
        report=report,
    )


def _with(base: Model, adapter: Path, source: str, kind: str, device: str) -> Model:
    """``base`` with this adapter; the other networks are shared."""
    loaded = load(source, device=device, adapters={kind: adapter})
    own = {found: one for found, one in loaded.adapters.items() if found == kind}
    return replace(base, adapters=own, controlnets=loaded.controlnets, files=loaded.files)


def _mask_of(rng: np.random.Generator) -> NDArray[np.float32]:
    return training_mask("bbox", SIZE, rng)
