"""The format of tables."""

import json
from pathlib import Path

import pytest

from cloisonne.eval.metrics.bootstrap import SMALLEST, Estimate
from cloisonne.eval.report import Column, Report, Table, figure


def test_figures() -> None:
    estimate = Estimate(value=0.9134, low=0.89, high=0.9321, n=100, scenes=50)
    assert figure(estimate) == "91.3 [89.0, 93.2]"
    assert figure(estimate, percent=False) == "0.91 [0.89, 0.93]"
    assert figure(None) == "–"
    assert figure(Estimate(value=-0.0001, low=-0.01, high=0.0, n=100, scenes=50)) == "0.0 [-1.0, 0.0]"


@pytest.mark.parametrize("percent", [True, False])
def test_an_interval_of_few_scenes_is_a_dash_with_the_minimum(percent: bool) -> None:
    cells = [
        figure(Estimate(value=0.5, low=0.25, high=0.75, n=100, scenes=scenes), percent=percent)
        for scenes in (1, SMALLEST - 1, SMALLEST)
    ]
    value = "50.0" if percent else "0.50"
    assert cells[0] == cells[1] == f"{value} [–, n < {SMALLEST}]"
    assert cells[2] == ("50.0 [25.0, 75.0]" if percent else "0.50 [0.25, 0.75]")


TABLE = Table(
    name="all",
    caption="n = 50 scenes.",
    columns=(Column("", "text"), Column("found"), Column("seconds", "number")),
    rows=(
        ("reco", Estimate(value=0.9134, low=0.89, high=0.9321, n=100, scenes=50), "1"),
        ("words", None, Estimate(value=2.0, low=1.5, high=2.5, n=9, scenes=9)),
    ),
)


def test_table() -> None:
    assert TABLE.markdown().splitlines() == [
        "n = 50 scenes.",
        "",
        "|  | found | seconds |",
        "| --- | ---: | ---: |",
        "| reco | 91.3 [89.0, 93.2] | 1 |",
        "| words | – | 2.00 [–, n < 10] |",
    ]


def test_a_report_is_read_back_as_written(tmp_path: Path) -> None:
    report = Report(("### Scenes\n", TABLE, "The end.\n"))
    text = report.write(tmp_path, "scenes")
    assert (tmp_path / "scenes.md").read_text() == text == f"### Scenes\n\n{TABLE.markdown()}\nThe end.\n"
    assert [Table.of(data) for data in json.loads((tmp_path / "scenes.json").read_text())["tables"]] == [TABLE]
