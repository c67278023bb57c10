"""Records of measurements: one JSON file per run in benchmarks/records, from which all figures of the docs come.

A record has the commands, version, commit, date, machine, hash of the weights and number of items of a run, and its
tables. A cell is text, null, [value, low, high, n, scenes], or "=RECORD/TABLE/ROW/COLUMN", the cell of another record.
"items" names an archive with the figures of every item, from which the intervals can be computed again.
"""

import json
import platform
import subprocess
import tarfile
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cloisonne
from cloisonne.eval.metrics.bootstrap import Estimate
from cloisonne.eval.report import Cell, Column, Table, printed, written
from cloisonne.models.builtin import BUILTIN

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "benchmarks" / "records"
WEIGHTS = "family"
"""In place of a record: the provenance of the built-in weights, as in family/exemplar/pictures."""
MOST_ITEMS = 256 << 10
"""Bytes of an archive of items; a larger one is not stored."""
_EMBEDDINGS = ("whole", "crop", "crops")


class RecordError(ValueError):
    """A figure or table that no record has."""


@dataclass(frozen=True)
class Records:
    """All records of a folder, and the figures in them."""

    folder: Path = FOLDER
    weights: Path = BUILTIN
    _read: dict[str, dict[str, Any]] = field(default_factory=dict)

    def record(self, name: str) -> dict[str, Any]:
        """The record ``name``. Raises RecordError if there is none."""
        if name not in self._read:
            file = self.folder / f"{name}.json"
            if not file.is_file():
                raise RecordError(f'There is no record "{name}" in {self.folder}.')
            self._read[name] = json.loads(file.read_text("utf-8"))
        return self._read[name]

    def table(self, path: str) -> Table:
        """The table RECORD/TABLE, its references resolved. Raises RecordError if there is none."""
        table = self._written(path)
        return replace(table, rows=tuple(tuple(map(self._resolved, row)) for row in table.rows))

    def source(self, name: str) -> str:
        """Version, commit, date, weights and machine of a record, in words."""
        record = self.record(name)
        parts = [
            f"version {record['measured']}",
            f"commit {record['commit']} of {record['date']}" if "commit" in record else "",
            _short(record.get("weights", ""), "weights "),
            record["machine"],
        ]
        return ", ".join(part for part in parts if part)

    def listed(self, runs: Collection[str]) -> str:
        """All records as a table, the oldest version first. runs: those that are measured again by one command."""
        names = sorted((file.stem for file in self.folder.glob("*.json")), key=lambda name: (self._version(name), name))
        counts = Counter(map(self._version, names))
        lines = [f"- version {version}: {count} records" for version, count in counts.items()]
        lines += ["", "| record | version | items | weights | measured again by |", "| --- | --- | ---: | --- | --- |"]
        for name in names:
            record = self.record(name)
            again = "its commands" if record["commands"] else "no command was recorded"
            again = "`make tables RUN=1`" if name in runs else again
            cells = (name, record["measured"], record.get("n", ""), _short(record.get("weights", "")), again)
            lines.append(f"| {' | '.join(map(str, cells))} |")
        return "\n".join(lines) + "\n"

    def _version(self, name: str) -> str:
        return self.record(name)["measured"]

    def figure(self, path: str, options: frozenset[str] = frozenset()) -> str:
        """The figure RECORD/TABLE/ROW/COLUMN, or family/MEMBER/FIELD, as text.

        options: "value" leaves out the interval, "negated" changes the sign, a digit is the number of decimals without
        an interval. Raises RecordError for an unknown figure or option.
        """
        if path.startswith(f"{WEIGHTS}/"):
            return self._provenance(path)
        cell, column = self._found(path)
        digits = next((int(option) for option in options if option.isdigit()), None)
        if unknown := [option for option in options - {"value", "negated"} if not option.isdigit()]:
            raise RecordError(f'"{unknown[0]}" is no option of the figure {path}: value, negated or a digit.')
        if not isinstance(cell, Estimate):
            if options or not cell:
                raise RecordError(f"{path} is not a value with an interval.")
            return cell
        if "negated" in options:
            cell = replace(cell, value=-cell.value, low=-cell.high, high=-cell.low)
        if digits is not None:
            return f"{round(cell.value * (100 if column.style == 'percent' else 1), digits) + 0.0:.{digits}f}"
        text = printed(cell, column)
        return text.partition(" ")[0] if "value" in options else text

    def _written(self, path: str) -> Table:
        record, _, name = path.partition("/")
        for data in self.record(record)["tables"]:
            if data["name"] == name:
                return Table.of(data)
        raise RecordError(f'The record "{record}" has no table "{name}".')

    def _found(self, path: str) -> tuple[Cell, Column]:
        """The cell RECORD/TABLE/ROW/COLUMN and its column; columns may have a slash."""
        record, name, row, title = (*path.split("/", 3), "", "", "")[:4]
        table = self._written(f"{record}/{name}")
        titles = [column.title for column in table.columns]
        for cells in table.rows:
            if cells[0] == row and title in titles:
                return self._resolved(cells[titles.index(title)]), table.columns[titles.index(title)]
        raise RecordError(f'The table {record}/{name} has no row "{row}" with a column "{title}".')

    def _resolved(self, cell: Cell) -> Cell:
        return self._found(cell[1:])[0] if isinstance(cell, str) and cell.startswith("=") else cell

    def _provenance(self, path: str) -> str:
        _, member, name = (*path.split("/", 2), "", "")[:3]
        file = self.weights / member / "provenance.json"
        found = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        value = (found.get("metrics", {}) | found).get(name)
        if not isinstance(value, int | float):
            raise RecordError(f'The weights have no figure "{path}".')
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _short(weights: str, before: str = "") -> str:
    """The beginning of a hash, after ``before``; other descriptions of weights as they are."""
    return f"{before}{weights[:12]}" if len(weights) == 64 else weights


def write_record(
    name: str, tables: list[dict[str, Any]], about: Mapping[str, Any], out: Path | None = None, folder: Path = FOLDER
) -> Path:
    """Write the record ``name``.

    about: its facts. out: the folder of a run, whose items are stored if they are small.
    """
    items = packed(out) if out else None
    if items is not None and len(items) <= MOST_ITEMS:
        (folder / f"{name}.tar.xz").write_bytes(items)
        about = {**about, "items": f"{name}.tar.xz"}
    file = folder / f"{name}.json"
    file.write_text(written({"record": name, **about, "tables": tables}), "utf-8")
    return file


def facts(commands: list[str], run: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a run in a record, from its commands and its run.json (empty for a script)."""
    return {
        "commands": commands,
        "measured": cloisonne.__version__,
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()} {run.get('device', 'cpu')}",
        "weights": run.get("model_hash", ""),
    }


def packed(out: Path) -> bytes:
    """The items of a run as tar.xz, without embeddings."""
    whole = BytesIO()
    with tarfile.open(fileobj=whole, mode="w:xz") as archive:
        for file in sorted([*out.rglob("run.json"), *out.rglob("*.jsonl")]):
            content = file.read_bytes() if file.suffix == ".json" else _slim(file.read_text("utf-8")).encode()
            info = tarfile.TarInfo(file.relative_to(out).as_posix())
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return whole.getvalue()


def _slim(lines: str) -> str:
    slim = (
        {key: value for key, value in json.loads(line).items() if key not in _EMBEDDINGS} for line in lines.splitlines()
    )
    return "".join(f"{json.dumps(item)}\n" for item in slim)


def _commit() -> str:
    call = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return call.stdout.strip()
