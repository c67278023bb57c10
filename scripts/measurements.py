"""The commands that measure the tables of docs/results.md, and a runner that resumes them.

They take some hours on two cores, which ``scripts/tables.py plan`` estimates; a table that needs a training of its own
is not among them and keeps its record.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costs import FILE, note, timed
from records import FOLDER, facts, write_record

_ADAPTER = "src/cloisonne/models/weights/control-canny"
_CONTROLS = ("control-canny", "control-canny:both", "everywhere:unmasked", "edges-masked:map")


@dataclass(frozen=True)
class Run:
    """A command and the record that it makes.

    words: of ``cloisonne evaluate``, or of Python for a script of benchmarks/. limit: items; None for a script, which
    ``quick`` makes short. folder: of its results, where another run shares it; default: the record's name.
    """

    record: str
    words: tuple[str, ...]
    limit: int | None = None
    quick: tuple[str, ...] = ()
    folder: str = ""

    def command(self, out: str, limit: int | None = None, device: str = "") -> list[str]:
        """The command with its folder or file. limit: at most so many items. device: of ``cloisonne evaluate``."""
        if self.limit is None:
            return [*self.words, *(self.quick if limit else ()), "--out", f"{out}/tables.json"]
        count = min(self.limit, limit or self.limit)
        where = ["--device", device] if device else []
        return ["cloisonne", "evaluate", *self.words, "--limit", str(count), *where, "-o", out]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """limit: at most so many items of each benchmark. device: of the evaluations. records: folder of the records.
    costs: file of what runs took; a run that resumes another notes none. again: run what is finished once more, to note
    what it takes without any item.
    """

    limit: int | None = None
    device: str = ""
    records: Path = FOLDER
    costs: Path = FILE
    again: bool = False

    def noted(self, run: Run, *, is_new: bool, is_done: bool) -> int | None:
        """The number of items of a cost to note, None for a script; -1 for one that is not measured."""
        if self.device not in ("", "cpu") or (run.limit is None and self.limit) or not (is_new or is_done):
            return -1
        if run.limit is None:
            return None
        return 0 if is_done else min(run.limit, self.limit or run.limit)


def _rows(*names: str) -> tuple[str, ...]:
    return tuple(word for name in names for word in ("--row", name))


RUNS = (
    Run("layouts", ("layouts",), 240),
    Run("control", ("control", *_rows(*(f"{row}={_ADAPTER}" for row in _CONTROLS))), 240),
    Run("exemplars", ("exemplars", *_rows("s3=@3", "words")), 400),
    Run("exemplars-similarity", ("exemplars", *_rows("words", "s1=@1", "s3=@3", "s5=@5", "s7=@7", "s9=@9")), 25),
    Run("edits", ("edits", *_rows("mrgd", "words")), 25, folder="edits"),
    Run("edits-baselines", ("edits", *_rows("mrgd", "words", "p2p", "multidiffusion", "official")), 10, folder="edits"),
    Run(
        "translations",
        (
            "translations",
            *_rows(
                "fast", "paint", "control", "quick=p2p,inversion=direct", "interrogate=interrogate,content_rounds=60"
            ),
        ),
        12,
    ),
    Run("mixed", ("mixed",), 24),
    Run("mixed-given", ("mixed", "--given", "--no-together"), 24),
    Run(
        "regions",
        (
            "python",
            "benchmarks/regions.py",
            "--shapes",
            "builtin",
            "sd15",
            "--regions",
            "1",
            "8",
            "16",
            "--dense-rounds",
            "2",
        ),
        quick=("--shapes", "tiny", "--rounds", "1"),
    ),
    Run(
        "checkpoints-sd15",
        ("python", "benchmarks/checkpoints.py", "--shapes", "sd15", "--rounds", "3"),
        quick=("--shapes", "tiny", "--rounds", "1", "--steps", "1", "--pixels", "64"),
    ),
    Run(
        "checkpoints-sdxl",
        ("python", "benchmarks/checkpoints.py", "--shapes", "sdxl", "--rounds", "2", "--steps", "1"),
        quick=("--shapes", "tiny", "--rounds", "1", "--pixels", "64"),
    ),
)
"""In the order of their start; the longest come first."""


def run_all(runs: Sequence[Run], out: Path, trial: Trial, jobs: int = 2) -> None:
    """Run the commands that are not finished in ``out``, ``jobs`` at a time, and write their records.

    Runs of one folder take turns. Exits with the names of those that failed.
    """
    folders = dict.fromkeys(run.folder or run.record for run in runs)
    groups = [[run for run in runs if (run.folder or run.record) == folder] for folder in folders]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda group: [run.record for run in group if not finished(run, out, trial)], groups))
    if failed := [name for names in results for name in names]:
        sys.exit(f"These failed: {', '.join(failed)}. Their output is in {out}; run again to resume.")


def finished(run: Run, out: Path, trial: Trial) -> bool:
    """Whether a run is finished, after running what is left of it. Its output is in OUT/RECORD.log."""
    folder, record = out / (run.folder or run.record), trial.records / f"{run.record}.json"
    done = out / f"{run.record}.done"
    command = run.command(str(folder), trial.limit, trial.device)
    is_done = done.is_file() and done.read_text("utf-8") == " ".join(command) and record.is_file()
    if is_done and not trial.again:
        return True
    print("+", *command, flush=True)
    is_new = not (out / f"{run.record}.log").exists()
    folder.mkdir(parents=True, exist_ok=True)
    words = command[1:] if command[0] == "python" else ["-m", *command]
    with (out / f"{run.record}.log").open("w", encoding="utf-8") as log:
        code, seconds = timed([sys.executable, *words], log)
    if code:
        return False
    if (items := trial.noted(run, is_new=is_new, is_done=is_done)) != -1:
        note(run.record, items, seconds, trial.costs)
    record_of(folder, run.record, [" ".join(run.command("out", trial.limit, trial.device))], trial.records)
    done.write_text(" ".join(command), "utf-8")
    return True


def record_of(out: Path, name: str, commands: list[str], folder: Path = FOLDER) -> Path:
    """The record of the finished run in ``out``: the tables it wrote, and its items where they are small."""
    run: Mapping[str, Any] = {}
    if (file := out / "run.json").is_file():
        run = json.loads(file.read_text("utf-8"))
    (found,) = (file for file in out.glob("*.json") if file.name != "run.json")
    tables = json.loads(found.read_text("utf-8"))["tables"]
    folder.mkdir(parents=True, exist_ok=True)
    return write_record(name, tables, facts(commands, run), out if run else None, folder)
