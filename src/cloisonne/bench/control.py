"""The control benchmark with our own generator in the chair of what is measured."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cloisonne.bench.layouts import facts, through_vae
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.eval.benchmark import CEILINGS
from cloisonne.eval.control import NONE, Row, evaluate_control
from cloisonne.eval.control_cases import Use
from cloisonne.eval.control_tables import Results
from cloisonne.eval.judge import SIZE, Judge
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene
from cloisonne.scene.control_maps import DRAWN
from cloisonne.train.control.masks import training_mask

OWN = "own"
"""The row of the model's own adapter."""
_USES: Mapping[str, Use] = {"": "masked", "unmasked": "unmasked", "map": "map"}
_TAKEN = (NONE, *CEILINGS, "reference")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Asked:
    """A row before its adapter is read."""

    name: str
    use: Use
    adapter: Path


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
    if kind not in DRAWN:
        raise SceneError(f'A map of kind "{kind}" cannot be drawn here; choose one of {", ".join(DRAWN)}.')
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


def asked_of(rows: Sequence[str]) -> list[Asked]:
    """Rows from "NAME=ADAPTER" (a folder or file), used masked, or "NAME:unmasked=ADAPTER" or "NAME:map=ADAPTER".

    The row of the latter is called NAME-unmasked or NAME-map. SceneError where a row is none of these, or its name is
    taken.
    """
    found: list[Asked] = []
    for text in rows:
        told, equals, adapter = text.partition("=")
        name, colon, use = told.partition(":")
        if not (equals and adapter and _NAME.fullmatch(name) and use in _USES and bool(use) == bool(colon)):
            raise SceneError(
                f'--row is "{text}"; give NAME=FOLDER, with ":unmasked" or ":map" behind the name if the mask is not '
                "to be put on the features."
            )
        full = f"{name}-{use}" if use else name
        if full in (*_TAKEN, *(row.name for row in found)):
            raise SceneError(f'There is a row "{full}" already; give --row "{text}" another name.')
        found.append(Asked(full, _USES[use], Path(adapter)))
    return found


def _with(base: Model, adapter: Path, source: str, kind: str, device: str) -> Model:
    """The model with this adapter, on the networks of ``base``, so that they are held once."""
    loaded = load(source, device=device, adapters={kind: adapter})
    own = {found: one for found, one in loaded.adapters.items() if found == kind}
    return replace(base, adapters=own, controlnets=loaded.controlnets, files=loaded.files)


def _mask_of(rng: np.random.Generator) -> NDArray[np.float32]:
    return training_mask("bbox", SIZE, rng)
