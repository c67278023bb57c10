"""What the runs of scripts/measurements.py took, in benchmarks/costs.json, and what a run will take.

A cost is the CPU time of a finished command, which hardly depends on what else the machine does:
{RECORD: {ITEMS: SECONDS}}, where ITEMS is "all" for a script of benchmarks/, and 0 for a finished run once more.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import IO, Protocol

from records import ROOT

FILE = ROOT / "benchmarks" / "costs.json"
ALL = "all"
_WRITING = Lock()


class Measured(Protocol):
    """A run: the name of its record, and the number of items, None for a script."""

    @property
    def record(self) -> str: ...

    @property
    def limit(self) -> int | None: ...


def costs(file: Path = FILE) -> dict[str, dict[str, float]]:
    """CPU seconds by record and number of items."""
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def note(record: str, items: int | None, seconds: float, file: Path = FILE) -> None:
    """Add or replace a cost."""
    with _WRITING:
        found = costs(file)
        found.setdefault(record, {})[ALL if items is None else str(items)] = round(seconds, 1)
        ordered = {
            name: dict(sorted(found[name].items(), key=lambda own: (len(own[0]), own[0]))) for name in sorted(found)
        }
        file.write_text(json.dumps(ordered, indent=1) + "\n", "utf-8")


def timed(words: Sequence[str], log: IO[str]) -> tuple[int, float]:
    """Run a command in the repository: its exit code, and the CPU seconds of it and its children."""
    process = subprocess.Popen(list(words), cwd=ROOT, stdout=log, stderr=log)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def estimated(run: Measured, file: Path = FILE) -> float | None:
    """CPU seconds of a run, None where it never ran.

    Measured as it is; else from the runs of the fewest and the most items, by the line through both; else from one, in
    proportion, which counts its start again for each item.
    """
    found = costs(file).get(run.record, {})
    if run.limit is None or str(run.limit) in found:
        return found.get(ALL if run.limit is None else str(run.limit))
    points = sorted((int(items), seconds) for items, seconds in found.items() if items != ALL)
    if not points:
        return None
    (few, first), (most, last) = points[0], points[-1]
    if few == most:
        return first * run.limit / few if few else None
    each = max(0.0, last - first) / (most - few)
    return first + each * (run.limit - few)


def planned(runs: Sequence[Measured], file: Path = FILE) -> str:
    """The CPU minutes of each run and of all, as text."""
    found = {run.record: estimated(run, file) for run in runs}
    lines = [f"{name:22} {'unknown' if cost is None else f'{cost / 60:7.1f}'}" for name, cost in found.items()]
    total = sum(cost for cost in found.values() if cost is not None) / 60
    unknown = [name for name, cost in found.items() if cost is None]
    rest = f", without what was never run: {', '.join(unknown)}" if unknown else ""
    return "\n".join([*lines, f"{total:.0f} CPU minutes in all{rest}. On two cores two commands run at a time."])
