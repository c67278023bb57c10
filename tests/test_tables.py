"""All figures of the docs come from the records: rendering changes nothing, a figure typed by hand is found."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest

import tables
from cloisonne.eval.items import Items
from cloisonne.eval.metrics.bootstrap import Estimate
from cloisonne.eval.report import Column, Report, Table
from cloisonne.eval.samples import differences_of, means, sample
from cloisonne.models.builtin import BUILTIN
from costs import costs, estimated, note, planned
from measurements import RUNS, Run, Trial, record_of, run_all
from records import FOLDER, ROOT, RecordError, Records

MEASURED = [ROOT / "docs" / "results.md", ROOT / "docs" / "training.md"]
"""Pages on which every table of figures is rendered."""
INTERVAL = re.compile(r"-?\d+(?:\.\d+)? ?%? ?\[-?\d+(?:\.\d+)?, -?\d+(?:\.\d+)?\]")
NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def unrendered(text: str) -> str:
    """A page without what is rendered and without code."""
    for pattern in (tables.TABLE, tables.COMMANDS, tables.LEGEND, tables.RECORDS, tables.FIGURE):
        text = pattern.sub("", text)
    return re.sub(r"^(?: {4}\S.*\n)+|^```.*?^```|`[^`]*`", "", text, flags=re.M | re.S)


def typed_by_hand(text: str, *, tables: bool = True) -> list[str]:
    """Intervals that stand outside of the markers; of tables, rows with a cell of a number with decimals."""
    rest = unrendered(text)
    rows = re.findall(r"^\|.*\| *-?\d+\.\d+ *\|.*$", rest, re.M) if tables else []
    return INTERVAL.findall(rest) + rows


def test_rendering_changes_nothing() -> None:
    assert [name(page) for page in tables.changed()] == []


@pytest.mark.parametrize("path", tables.pages(), ids=name)
def test_no_figure_is_typed_by_hand(path: Path) -> None:
    assert typed_by_hand(path.read_text("utf-8"), tables=path in MEASURED) == []


def test_every_table_of_the_results_is_rendered() -> None:
    assert "\n|" not in unrendered((ROOT / "docs" / "results.md").read_text("utf-8"))


@pytest.mark.parametrize("path", tables.pages(), ids=name)
def test_no_line_begins_with_a_figure(path: Path) -> None:
    """A line that begins with a comment is no markdown."""
    assert re.findall(r"^(?: *(?:-|\d+\.) )? *<!-- figure.*$", path.read_text("utf-8"), re.M) == []


@pytest.mark.parametrize("path", MEASURED, ids=name)
def test_a_changed_cell_is_found(path: Path) -> None:
    text = path.read_text("utf-8")
    blocks = [found.span() for found in tables.TABLE.finditer(text)]
    cells = [found for span in blocks for found in re.compile(r"^\|.*?(\d\.\d).*\|$", re.M).finditer(text, *span)]
    assert cells
    for cell in (cells[0], cells[len(cells) // 2], cells[-1]):
        at = cell.start(1)
        wrong = text[:at] + ("8" if text[at] != "8" else "7") + text[at + 1 :]
        assert tables.rendered(wrong, Records()) == text


@pytest.mark.parametrize("line", ["| reco | 88.4 [86.4, 90.5] |", "It is 88.4 [86.4, 90.5] here.", "| a | 1.5 |"])
def test_a_figure_typed_beside_the_markers_is_found(line: str) -> None:
    text = (ROOT / "docs" / "results.md").read_text("utf-8")
    assert typed_by_hand(f"{text}\n{line}\n")


@pytest.mark.parametrize("record", NAMES)
def test_records_say_what_was_measured(record: str) -> None:
    found = json.loads((FOLDER / f"{record}.json").read_text("utf-8"))
    assert found["record"] == record
    assert {"commands", "measured", "machine"} <= found.keys()
    assert ("commit" in found) != ("source" in found) or "items" in found
    for data in found["tables"]:
        table = Records().table(f"{record}/{data['name']}")
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert all(
            cell.low <= cell.value <= cell.high for row in table.rows for cell in row if isinstance(cell, Estimate)
        )
    if items := found.get("items"):
        assert (FOLDER / items).is_file()


def test_every_record_is_used() -> None:
    used = "".join(page.read_text("utf-8") for page in tables.pages())
    assert [record for record in NAMES if not re.search(rf"<!-- (table|figure): {record}/", used)] == []


def test_every_run_has_a_record_with_its_tables() -> None:
    assert len({run.record for run in RUNS}) == len(RUNS)
    assert {run.record for run in RUNS} <= set(NAMES)


@pytest.mark.parametrize(
    ("record", "rows", "count"), [("edits", ("mrgd", "words"), 100), ("edits-baselines", ("mrgd", "p2p"), 100)]
)
def test_intervals_follow_from_the_items(record: str, rows: tuple[str, str], count: int, tmp_path: Path) -> None:
    with tarfile.open(FOLDER / Records().record(record)["items"]) as archive:
        archive.extractall(tmp_path, filter="data")
    own = {row: Items(tmp_path / "rows" / row / "items.jsonl") for row in rows}
    samples = {row: {"success": sample(items, range(count), "success")} for row, items in own.items()}
    table, differences = Records().table(f"{record}/all"), Records().table(f"{record}/differences")
    at = [column.title for column in table.columns].index("success")
    for row in rows:
        assert means(samples[row])["success"] == next(cells[at] for cells in table.rows if cells[0] == row)
    expected = differences_of(samples, "mrgd")[rows[1]]["success"]
    assert expected == next(cells[at] for cells in differences.rows if cells[0] == rows[1])


def test_figures_of_a_record(tmp_path: Path) -> None:
    value = Estimate(value=0.125, low=0.1, high=0.15, n=50, scenes=50)
    columns = (Column("", "text"), Column("found"), Column("outside / inside", "number"))
    table = Table(name="rows", columns=columns, rows=(("a", value, value), ("b", "=one/rows/a/found", "1.5")))
    (tmp_path / "one.json").write_text(json.dumps({"tables": [table.data()]}))
    records = Records(folder=tmp_path)
    assert records.figure("one/rows/a/found") == records.figure("one/rows/b/found") == "12.5 [10.0, 15.0]"
    assert records.figure("one/rows/a/found", frozenset({"negated"})) == "-12.5 [-15.0, -10.0]"
    assert records.figure("one/rows/a/found", frozenset({"value"})) == "12.5"
    assert records.figure("one/rows/a/outside / inside", frozenset({"1"})) == "0.1"
    assert records.figure("one/rows/b/outside / inside") == "1.5"
    text = "It is <!-- figure: one/rows/a/found | negated, 0 -->x<!-- --> here."
    assert tables.rendered(text, records) == text.replace("x", "-12")
    for wrong in ("two/rows/a/found", "one/row/a/found", "one/rows/c/found", "one/rows/a/lost", "family/unet/x", "one"):
        with pytest.raises(RecordError):
            records.figure(wrong)
    with pytest.raises(RecordError, match="no option"):
        records.figure("one/rows/a/found", frozenset({"half"}))


def test_figures_of_the_weights() -> None:
    made = json.loads((BUILTIN / "control-canny" / "provenance.json").read_text("utf-8"))
    assert Records().figure("family/control-canny/pictures") == f"{made['pictures']:,}"
    assert float(Records().figure("family/control-canny/loss")) == made["metrics"]["loss"]


def test_a_run_becomes_a_record(tmp_path: Path) -> None:
    """The record has the tables as the command wrote them, the settings, and the items without embeddings."""
    out, folder = tmp_path / "out", tmp_path / "records"
    out.mkdir()
    (out / "run.json").write_text(json.dumps({"benchmark": "layouts-v1", "model_hash": "f00", "device": "cpu"}))
    Items(out / "items-reco.jsonl").add(0, {"regions": [{"found": True}], "whole": [0.5] * 64})
    value = Estimate(value=1 / 3, low=0.1, high=0.5, n=12, scenes=12)
    table = Table(name="all", caption="n = 12.", columns=(Column("", "text"), Column("found")), rows=(("reco", value),))
    Report((table,)).write(out, "layouts")
    record_of(out, "mine", ["cloisonne evaluate layouts -o out"], folder)
    records = Records(folder=folder)
    assert records.table("mine/all") == table
    assert records.record("mine")["weights"] == "f00"
    assert records.record("mine")["commands"] == ["cloisonne evaluate layouts -o out"]
    with tarfile.open(folder / "mine.tar.xz") as archive:
        (line,) = archive.extractfile("items-reco.jsonl").read().splitlines()  # type: ignore[union-attr]
    assert json.loads(line) == {"index": 0, "regions": [{"found": True}]}


def test_a_record_without_a_command_is_listed_as_such() -> None:
    listed = tables.RECORDS.search((ROOT / "docs" / "results.md").read_text("utf-8"))
    assert listed is not None
    for record in NAMES:
        (line,) = re.findall(rf"^\| {record} \|.*$", listed[0], re.M)
        found = Records().record(record)
        assert f"| {found['measured']} |" in line
        assert bool(found["commands"]) != ("no command was recorded" in line)


def test_legends_are_those_of_the_commands() -> None:
    page = (ROOT / "docs" / "results.md").read_text("utf-8")
    printed = {found[2]: found[0] for found in tables.LEGEND.finditer(page)}
    assert printed.keys() == tables.LEGENDS.keys()
    for benchmark, text in printed.items():
        assert tables.LEGENDS[benchmark].partition("\n")[2].strip() in text
    changed = page.replace("- mIoU: of the requested box", "- mIoU: of another box")
    assert changed != page
    assert tables.rendered(changed, Records()) == page


@pytest.mark.parametrize(
    ("items", "expected"),
    [({}, None), ({60: 90.0}, 90.0), ({2: 30.0}, 900.0), ({2: 30.0, 6: 50.0}, 320.0), ({0: 20.0, 1: 25.0}, 320.0)],
)
def test_a_run_is_estimated_from_shorter_ones(items: dict[int, float], expected: float | None, tmp_path: Path) -> None:
    run = Run("edits", ("edits",), 60)
    for count, seconds in items.items():
        note("edits", count, seconds, tmp_path / "costs.json")
    assert estimated(run, tmp_path / "costs.json") == expected
    assert ("edits" in planned([run], tmp_path / "costs.json").splitlines()[-1]) == (expected is None)


@pytest.mark.slow
def test_runs_resume_and_their_records_render_the_same_tables(tmp_path: Path) -> None:
    """Two items each: the records of a new run have the tables and rows that the pages name."""
    chosen = [run for run in RUNS if run.record in ("mixed", "edits", "edits-baselines")]
    shutil.copytree(FOLDER, tmp_path / "records")
    trial = Trial(limit=2, records=tmp_path / "records", costs=tmp_path / "costs.json")
    run_all(chosen, tmp_path / "out", trial)
    before = {run.record: (tmp_path / "records" / f"{run.record}.json").stat().st_mtime_ns for run in chosen}
    run_all(chosen, tmp_path / "out", trial)
    assert {run.record: set(costs(trial.costs)[run.record]) for run in chosen} == {run.record: {"2"} for run in chosen}
    after = {run.record: (tmp_path / "records" / f"{run.record}.json").stat().st_mtime_ns for run in chosen}
    assert before == after
    records = Records(folder=tmp_path / "records")
    for page in tables.pages():
        tables.rendered(page.read_text("utf-8"), records)


def test_versions_agree() -> None:
    """An unreleased version of the changelog is a .dev0 of the package."""
    version, note = re.search(r"^## (\S+)(.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M).groups()  # type: ignore[union-attr]
    packaged = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert packaged is not None
    assert packaged[1] == (f"{version}.dev0" if "unreleased" in note else version)
