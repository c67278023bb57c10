"""The format of tables."""

import pytest

from cloisonne.eval.metrics.bootstrap import SMALLEST, Estimate
from cloisonne.eval.report import figure, table


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


def test_table() -> None:
    assert table(["", "found"], [["reco", "1"], ["words", "2"]]).splitlines() == [
        "|  | found |",
        "| --- | ---: |",
        "| reco | 1 |",
        "| words | 2 |",
    ]
