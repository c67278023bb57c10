"""Tables of a benchmark: values with intervals, written as markdown and as JSON."""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

from cloisonne.eval.items import write_whole
from cloisonne.eval.metrics.bootstrap import SMALLEST, Estimate

Style = Literal["text", "percent", "number"]
"""Of a column: text aligned left; or values aligned right, in percent or as they are."""
Cell = Estimate | str | None
Headings = Mapping[str, tuple[str, bool]]
"""Heading of each figure by its key, and whether it is printed in percent."""


def figure(estimate: Estimate | None, *, percent: bool = True) -> str:
    """Format a value with its interval, "91.3 [89.0, 93.2]"; a dash for None.

    Fewer than ``SMALLEST`` scenes give no interval: "91.3 [–, n < 10]".
    """
    if estimate is None:
        return "–"
    scale, digits = (100, 1) if percent else (1, 2)
    # Adding zero takes the sign from a rounded -0.0.
    numbers = (round(number * scale, digits) + 0.0 for number in (estimate.value, estimate.low, estimate.high))
    value, low, high = (f"{number:.{digits}f}" for number in numbers)
    if estimate.scenes < SMALLEST:
        return f"{value} [–, n < {SMALLEST}]"
    return f"{value} [{low}, {high}]"


@dataclass(frozen=True)
class Column:
    """A column: its title and the style of its cells."""

    title: str
    style: Style = "percent"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table. caption: the lines above it. rows: a cell for each column."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""

    def markdown(self) -> str:
        """The caption and the table in markdown."""
        rules = ["---" if column.style == "text" else "---:" for column in self.columns]
        header = [column.title for column in self.columns]
        body = [[printed(cell, column) for cell, column in zip(row, self.columns, strict=True)] for row in self.rows]
        lines = "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rules, *body)) + "\n"
        return f"{self.caption}\n\n{lines}" if self.caption else lines

    def data(self) -> dict[str, Any]:
        """The table as JSON values; an estimate is [value, low, high, n, scenes]."""
        return {
            "name": self.name,
            "caption": self.caption,
            "columns": [[column.title, column.style] for column in self.columns],
            "rows": [[_data(cell) for cell in row] for row in self.rows],
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Table":
        """The table of :meth:`data`."""
        columns = tuple(Column(title, style) for title, style in data["columns"])
        rows = tuple(tuple(map(_cell, row)) for row in data["rows"])
        return cls(name=data["name"], caption=data["caption"], columns=columns, rows=rows)


@dataclass(frozen=True)
class Report:
    """The tables of a benchmark, with the headings and paragraphs between them."""

    parts: tuple[str | Table, ...]

    def markdown(self) -> str:
        """All parts in markdown."""
        return "\n".join(part if isinstance(part, str) else part.markdown() for part in self.parts)

    def tables(self) -> list[Table]:
        """The tables alone."""
        return [part for part in self.parts if isinstance(part, Table)]

    def json(self) -> str:
        """The tables in JSON, one row per line."""
        return written({"tables": [table.data() for table in self.tables()]})

    def write(self, folder: Path, name: str) -> str:
        """Write ``name``.md and ``name``.json into the folder; returns the markdown."""
        text = self.markdown()
        write_whole(folder / f"{name}.json", self.json())
        write_whole(folder / f"{name}.md", text)
        return text


def estimates(
    name: str,
    caption: str,
    headings: Headings,
    rows: Mapping[str, Mapping[str, Estimate | None]],
    *,
    label: str = "",
    titles: Mapping[str, str] | None = None,
) -> Table:
    """A table of estimates by row and by key of ``headings``. titles: labels of rows that are not their names."""
    named = titles or {}
    columns = [Column(title, "percent" if percent else "number") for title, percent in headings.values()]
    return Table(
        name=name,
        caption=caption,
        columns=(Column(label, "text"), *columns),
        rows=tuple((named.get(row, row), *(own[key] for key in headings)) for row, own in rows.items()),
    )


def printed(cell: Cell, column: Column) -> str:
    """A cell in markdown."""
    return cell if isinstance(cell, str) else figure(cell, percent=column.style == "percent")


def written(data: Mapping[str, Any]) -> str:
    """JSON with one line per row of a table; ``data`` has the tables' :meth:`Table.data` under "tables"."""
    tables = []
    for table in data["tables"]:
        rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False)}" for row in table["rows"])
        head = [f"   {json.dumps(key)}: {json.dumps(table[key], ensure_ascii=False)}" for key in table if key != "rows"]
        tables.append("  {\n" + ",\n".join([*head, f'   "rows": [\n{rows}\n   ]']) + "\n  }")
    rest = [f" {json.dumps(key)}: {json.dumps(data[key], ensure_ascii=False)}" for key in data if key != "tables"]
    return "{\n" + ",\n".join([*rest, ' "tables": [\n' + ",\n".join(tables) + "\n ]"]) + "\n}\n"


def _data(cell: Cell) -> Any:
    return list(astuple(cell)) if isinstance(cell, Estimate) else cell


def _cell(data: Any) -> Cell:
    if not isinstance(data, list):
        return data
    value, low, high, n, scenes = data
    return Estimate(value=value, low=low, high=high, n=n, scenes=scenes)
