"""From items to tables, on made-up items of enough layouts for every column."""

from typing import Any

import numpy as np
import pytest

from cloisonne.eval.layouts import Layout, layouts
from cloisonne.eval.tables import MEASURES, Results, summarise

COUNT = 510


def items(chosen: tuple[Layout, ...], seed: int, found: float, shift: float = 0.0) -> dict[int, dict[str, Any]]:
    """Items whose regions are found with a probability and whose embeddings lie ``shift`` from the origin."""
    rng = np.random.default_rng(seed)
    out = {}
    for layout in chosen:
        regions = [
            {
                "found": bool(rng.random() < found),
                "crop": True,
                "iou": 0.25,
                "colour": True if region.colour else None,
                "leakage": 0.0,
                "somewhere": False,
            }
            for region in layout.regions
        ]
        out[layout.index] = {
            "regions": regions,
            "natural": bool(rng.random() < found),
            "whole": (rng.standard_normal(64) + shift).tolist(),
            "crops": (rng.standard_normal((len(regions), 64)) + shift).tolist(),
        }
    return out


@pytest.fixture(scope="module")
def results() -> Results:
    chosen, references = layouts()[:COUNT], layouts()[-COUNT:]
    rows = {"reco": items(chosen, 1, 0.8, 0.3), "words": items(chosen, 2, 0.4, 0.6), "truth": items(chosen, 3, 1.0)}
    return summarise(chosen, references, rows, items(references, 4, 1.0))  # type: ignore[arg-type]


def test_shares(results: Results) -> None:
    rows = results.groups["all"].rows
    assert rows["reco"]["found"].value == pytest.approx(0.8, abs=0.05)
    assert rows["reco"]["found"].low < 0.8 < rows["reco"]["found"].high
    assert rows["reco"]["iou"].value == rows["reco"]["iou"].low == 0.25
    assert rows["truth"]["found"].value == 1
    assert rows["reco"]["natural"].value == pytest.approx(0.8, abs=0.06)
    assert rows["reco"]["natural"].n == 408
    coloured = [r for layout in layouts()[:COUNT] if not layout.held_out for r in layout.regions if r.colour]
    assert rows["reco"]["colour"].n == len(coloured)


def test_differences_are_to_the_first_row(results: Results) -> None:
    differences = results.groups["all"].differences
    assert list(differences) == ["words", "truth"]
    assert differences["words"]["found"].value == pytest.approx(-0.4, abs=0.07)
    assert differences["words"]["found"].high < 0 < differences["truth"]["found"].low


def test_distances_rank_and_the_truth_is_at_the_floor(results: Results) -> None:
    rows = results.groups["all"].rows
    for name in ("frechet_whole", "frechet_crops"):
        truth, reco, words = (rows[row][name] for row in ("truth", "reco", "words"))
        assert 0 < truth.value < truth.high < reco.low < reco.value < reco.high < words.low
        assert reco.value - truth.value == pytest.approx(64 * 0.3**2, rel=0.2)
        assert truth.n == reco.n == words.n
    assert rows["reco"]["frechet_whole"].n == 408


def test_distances_of_few_pictures_are_not_given(results: Results) -> None:
    for group in (results.groups["held-out"], results.groups["overlapped"]):
        assert group.scenes < 400
        assert {row["frechet_whole"] for row in group.rows.values()} == {None}


def test_markdown(results: Results) -> None:
    text = results.report().markdown()
    all_, overlapped, held_out, legend = text.split("### ")[1:]
    assert all_.startswith("Compositions of the training world\n\nn = 408 scenes, ")
    assert "real images against other real ones: whole " in all_
    assert "Row minus reco, paired by scene:" in all_
    assert "| reco | 8" in all_
    assert "Fréchet distances need at least 400 images." in overlapped
    assert "–" in held_out
    assert all(f"- {heading}: " in legend for heading, _ in MEASURES.values())
    header, rule, *body = [line for line in all_.splitlines() if line.startswith("|")][:5]
    assert {line.count("|") for line in (header, rule, *body)} == {11}
