"""The control benchmark with our own generator in the chair of what is measured."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cloisonne.bench.arguments import check_control
from cloisonne.bench.arguments import control_rows as asked_of
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
    """``evaluate control``: pictures of a model with adapters, measured by their edges; see eval.control.

    rows: see :func:`asked_of`; None means the model's own adapter, masked. The networks of the model are shared by all
    rows; each has an adapter of its own.
    """
    check_control(kind, rows)
    asked = asked_of(rows or ())
    base, judge = load(source, device=device), Judge.load(BUILTIN / "judge")
    if not asked and kind not in base.adapters:
        raise CapabilityError(
            f'"{base.name}" has no adapter for {kind} of its own; give one to measure, as in --row NAME=FOLDER.'
        )
    plain = replace(base, adapters={})
    models = {NONE: plain, **{row.name: _with(base, row.adapter, source, kind, device) for row in asked}}
    described = {row.name: Row(use=row.use, adapter=models[row.name].hash) for row in asked}
    if not asked:
        models[OWN], described = base, {OWN: Row(use="masked", adapter=base.hash)}

    def drawn(scene: Scene, row: str, seed: int) -> np.ndarray:
        return np.asarray(generate(scene, models[row], seed=seed).image)

    return evaluate_control(
        drawn,
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
    """The model with this adapter, on the networks of ``base``, so that they are held once."""
    loaded = load(source, device=device, adapters={kind: adapter})
    own = {found: one for found, one in loaded.adapters.items() if found == kind}
    return replace(base, adapters=own, controlnets=loaded.controlnets, files=loaded.files)


def _mask_of(rng: np.random.Generator) -> NDArray[np.float32]:
    return training_mask("bbox", SIZE, rng)
