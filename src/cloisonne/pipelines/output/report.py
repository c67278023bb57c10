"""The report of a run: what ``--json`` prints."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cloisonne.scene.scene import Scene

if TYPE_CHECKING:
    from cloisonne.core.run import Run
    from cloisonne.models.model import Model

REPORT_VERSION = 1
"""Version of the report's fields."""


def report_of(
    scene: Scene,
    model: "Model",
    run: "Run",
    *,
    began: float,
    outputs: Sequence[Mapping[str, Any]],
    dropped: Iterable[str],
    warnings: Iterable[str],
    outside: Mapping[str, Any],
) -> dict[str, Any]:
    """The report of a finished run.

    began: ``time.perf_counter()`` at its start. outputs: one entry for each image. outside: entries about the pixels
    that must not change.
    """
    return {
        "version": REPORT_VERSION,
        "outputs": [dict(output) for output in outputs],
        "scene": scene.to_dict(complete=True),
        "model": dict(model.record()),
        "sampler_of_checkpoint": model.scheduler,
        "seconds": round(time.perf_counter() - began, 3),
        "forwards": run.forwards,
        "rows": run.rows,
        "reused": run.reused,
        "dropped": list(dropped),
        "warnings": list(warnings),
        **outside,
    }


def dropped_warnings(names: Iterable[str]) -> tuple[str, ...]:
    """One warning for each region that is left out."""
    advice = "shorten the phrases, or give it a higher priority"
    return tuple(f'Region "{name}" is left out, because it does not fit the model\'s text; {advice}.' for name in names)


def warnings_of(report: Mapping[str, Any]) -> tuple[str, ...]:
    """The warnings of a report, each once, and one for each region that was dropped."""
    return tuple(dict.fromkeys([*report["warnings"], *dropped_warnings(report["dropped"])]))
