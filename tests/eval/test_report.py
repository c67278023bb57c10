"""What tables look like."""

from cloisonne.eval.bootstrap import Estimate
from cloisonne.eval.report import figure, table


def test_figures() -> None:
    estimate = Estimate(value=0.9134, low=0.89, high=0.9321, n=10, scenes=5)
    assert figure(estimate) == "91.3 [89.0, 93.2]"
    assert figure(estimate, percent=False) == "0.91 [0.89, 0.93]"
    assert figure(None) == "–"
    assert figure(Estimate(value=-0.0001, low=-0.01, high=0.0, n=10, scenes=5)) == "0.0 [-1.0, 0.0]"


def test_table() -> None:
    assert table(["", "found"], [["reco", "1"], ["words", "2"]]).splitlines() == [
        "|  | found |",
        "| --- | ---: |",
        "| reco | 1 |",
        "| words | 2 |",
    ]
