"""The control benchmark: figures of small hand-made maps, and runs with stand-ins for the generator and the judge."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cloisonne.errors import OutputError
from cloisonne.eval.control import NONE, Row, evaluate_control
from cloisonne.eval.control_cases import CANVAS, cases
from cloisonne.eval.judge import EMBEDDING, Verdict
from cloisonne.eval.metrics.control import boundary, edge_figures, low_frequency, variety
from cloisonne.eval.report import Table
from cloisonne.scene import Scene
from cloisonne.scene.shapes.masks import box_mask
from cloisonne.world.glyphs import COLOURS, TRAINING

SIZE = 64
ROWS = {"a": Row(use="masked", adapter="1"), "a-unmasked": Row(use="unmasked", adapter="1")}


def line(column: int | None) -> np.ndarray:
    """Edges [64, 64]: an upright line of 20 pixels, or nothing."""
    edges = np.zeros((SIZE, SIZE), bool)
    if column is not None:
        edges[22:42, column] = True
    return edges


MIDDLE = box_mask((0.25, 0.25, 0.75, 0.75), SIZE, SIZE) > 0
EVERYWHERE, NOWHERE = np.ones((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), bool)


def test_the_truth_itself_has_no_fault():
    found = edge_figures(line(30), line(30), MIDDLE)
    assert (found["f"], found["precision"], found["recall"]) == (1, 1, 1)
    assert found["lfmse_in"] == 0
    assert found["lfmse_tot"] == found["lfmse_out"]
    assert found["coincidence"] == 1
    assert found["hallucination_in"] == 0
    assert found["outside"] == 0


@pytest.mark.parametrize(("shift", "f"), [(1, 1.0), (2, 1.0), (3, 0.0), (4, 0.0)])
def test_edges_within_two_pixels_count(shift, f):
    assert boundary(line(30 + shift), line(30), MIDDLE)["f"] == f


def test_diagonal_neighbours_are_measured_in_a_straight_line():
    drawn, true = np.zeros((2, SIZE, SIZE), bool)
    drawn[32, 32], true[34, 33] = True, True
    assert boundary(drawn, true, MIDDLE)["f"] == 0, "√5 pixels away"


def test_precision_and_recall():
    found = boundary(line(20) | line(30), line(30) | line(40), MIDDLE)
    assert (found["precision"], found["recall"], found["f"]) == (0.5, 0.5, 0.5)
    found = boundary(line(30) | line(40), line(30), MIDDLE)
    assert (found["precision"], found["recall"]) == (0.5, 1)
    assert found["f"] == pytest.approx(2 / 3)


def test_edges_outside_are_not_counted_but_may_be_what_is_near():
    assert boundary(line(30) | line(5), line(30) | line(60), MIDDLE)["f"] == 1
    assert boundary(line(15), line(16), MIDDLE) == {"f": 0, "precision": None, "recall": 1}


def test_no_edges():
    assert boundary(line(None), line(None), MIDDLE) == {"f": 1, "precision": None, "recall": None}
    assert boundary(line(30), line(None), MIDDLE) == {"f": 0, "precision": 0, "recall": None}
    assert boundary(line(None), line(30), MIDDLE) == {"f": 0, "precision": None, "recall": 0}
    found = low_frequency(line(None), line(None), MIDDLE)
    assert (found["lfmse_in"], found["lfmse_out"], found["coincidence"]) == (0, 1, None)


def test_empty_mask():
    found = edge_figures(line(30), line(30), NOWHERE)
    inside = ("f", "precision", "recall", "lfmse_in", "lfmse_tot", "coincidence", "hallucination_in")
    assert {found[name] for name in inside} == {None}
    assert found["outside"] == 20
    assert 0 < found["lfmse_out"] < 1


def test_mask_of_everything():
    found = edge_figures(line(30), line(34), EVERYWHERE)
    assert {found[name] for name in ("lfmse_out", "lfmse_tot", "hallucination_out", "outside")} == {None}
    assert found["f"] == 0
    assert found["lfmse_in"] > 0


def test_low_frequency_figures_of_full_maps():
    """Maps of edges everywhere and nowhere stay what they are when they are blurred and shrunk."""
    found = low_frequency(EVERYWHERE, NOWHERE, MIDDLE)
    assert (found["lfmse_in"], found["lfmse_out"], found["lfmse_tot"]) == (1, 0, 1)
    assert (found["hallucination_in"], found["hallucination_out"]) == (1, 1)
    found = low_frequency(NOWHERE, EVERYWHERE, MIDDLE)
    assert (found["lfmse_in"], found["lfmse_out"], found["lfmse_tot"]) == (1, 1, 2)
    assert (found["coincidence"], found["hallucination_in"], found["hallucination_out"]) == (0, 0, 0)


def test_variety_of_pairs():
    black, white = np.zeros((SIZE, SIZE, 3), np.uint8), np.full((SIZE, SIZE, 3), 255, np.uint8)
    framed = np.where(MIDDLE[..., None], black, white)
    found = variety([black, framed, black], MIDDLE, lambda rgb: torch.tensor([float(rgb.mean()), 0.0]))
    assert (found["inside"], found["outside"]) == (0, pytest.approx(2 / 3))
    assert found["whole"] == pytest.approx(2 / 3 * framed.mean())
    assert variety([black, white], EVERYWHERE, lambda rgb: torch.zeros(2))["outside"] is None


class Tracer:
    """Draws the map that it is given, where it is to be obeyed; of a caption alone, stripes that depend on the seed."""

    def __init__(self, stop_after: int = 1_000_000) -> None:
        self.calls: list[tuple[Scene, str, int]] = []
        self.left = stop_after

    def __call__(self, scene: Scene, row: str, seed: int) -> np.ndarray:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.calls.append((scene, row, seed))
        rgb = np.zeros((CANVAS, CANVAS, 3), np.uint8)
        rgb[:, seed % 16 :: 16] = 255
        return rgb if not scene.regions else rgb // 2


@torch.no_grad()
def judge(pictures: Tensor) -> Verdict:
    """Sees the first glyph wherever there is a bright cell."""
    n = len(pictures)
    classes = torch.zeros(n, 1 + len(TRAINING), 16, 16)
    classes[:, 1] = 20 * (pictures[:, 0, 4::8, 4::8] > 0)
    colours = torch.zeros(n, 1 + len(COLOURS), 16, 16)
    return Verdict(classes, colours, torch.zeros(n, 8), pictures.mean((1, 2, 3))[:, None].expand(n, EMBEDDING))


def mask_of(rng: np.random.Generator) -> np.ndarray:
    x = rng.uniform(0, 0.5)
    return box_mask((x, x, x + 0.5, x + 0.5), CANVAS, CANVAS)


def run(out: Path, tracer: Tracer, **options: Any) -> Any:
    settings = {"rows": ROWS, "limit": 4, "report": lambda line: None} | options
    return evaluate_control(tracer, judge, lambda rgb: rgb // 2, mask_of, out, **settings)


def test_rows_and_ceilings(tmp_path):
    results = run(tmp_path, Tracer())
    assert list(results.rows) == [NONE, *ROWS, "truth-vae", "truth"]
    assert list(results.differences) == [NONE, "a-unmasked", "truth-vae", "truth"]
    density = results.rows[NONE]["density"]
    assert (density.value, density.low, density.high) == (1, 1, 1)
    truth = results.rows["truth"]
    assert (truth["f"].value, truth["lfmse_in"].value, truth["coincidence"].value) == (1, 0, 1)
    assert truth["f"].n == 4
    assert truth["frechet"] is None, "4 pictures are too few"
    same = results.differences["a-unmasked"]
    assert {figure.value for figure in same.values() if figure} == {0.0}


def test_the_density_is_a_ratio_of_sums(tmp_path):
    results = run(tmp_path, Tracer())
    drawn = {row: sum(line["outside"] for line in items(tmp_path, row)) for row in (NONE, "truth")}
    assert results.rows["truth"]["density"].value == pytest.approx(drawn["truth"] / drawn[NONE])


def items(out: Path, row: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "rows" / row / "items.jsonl").read_text().splitlines()]


def test_what_rows_are_asked_for(tmp_path):
    tracer = Tracer()
    run(
        tmp_path,
        tracer,
        limit=1,
        seed=5,
        rows=ROWS | {use: Row(use=use, adapter="1") for use in ("map", "both", "conditional")},
    )
    (case,) = cases(1, mask_of)
    asked = {row: scene for scene, row, _ in tracer.calls}
    assert {seed for _, _, seed in tracer.calls} == {5 + case.layout.seed}
    assert {scene.caption for scene in asked.values()} == {case.layout.sentence}
    assert {scene.method for scene in asked.values()} == {"caption"}
    assert asked[NONE].regions == ()
    masked, unmasked, blanked = (asked[row].regions[0] for row in ("a", "a-unmasked", "map"))
    assert (masked.soft_mask(CANVAS, CANVAS) == case.mask).all()
    assert unmasked.soft_mask(CANVAS, CANVAS).min() == blanked.soft_mask(CANVAS, CANVAS).min() == 1
    assert masked.control == unmasked.control != blanked.control
    branches = {row: asked[row].regions[0].control.conditional_only for row in ("a", "both", "conditional")}
    assert branches == {"a": None, "both": False, "conditional": True}
    assert (asked["conditional"].regions[0].soft_mask(CANVAS, CANVAS) == case.mask).all()


def test_objects_with_their_middle_outside():
    for case in cases(6, mask_of):
        for region, outside in zip(case.layout.regions, case.outside(), strict=True):
            row, column = (int((region.box[k] + region.box[k + 2]) / 2 * CANVAS) for k in (1, 0))
            assert outside == (not case.mask[row, column])


def test_stopped_run_continues_and_ends_the_same(tmp_path):
    whole = run(tmp_path / "whole", Tracer(), diversity=1)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", Tracer(stop_after=13), diversity=1)
    rest = Tracer()
    assert run(tmp_path / "parts", rest, diversity=1) == whole
    assert len(rest.calls) == 3 * 4 + 3 * 8 - 13 + 2, "two pictures of an unfinished comparison are redrawn"
    for file in (path for path in (tmp_path / "whole").rglob("*") if path.is_file()):
        assert (tmp_path / "parts" / file.relative_to(tmp_path / "whole")).read_text() == file.read_text()


def test_finished_run_asks_nothing_and_new_rows_only_their_own(tmp_path):
    lines = []
    run(tmp_path, Tracer(), report=lines.append)
    assert lines == [f"{done} of 4 scenes" for done in (1, 2, 3, 4)]
    lines.clear()
    run(tmp_path, Tracer(stop_after=0), report=lines.append)
    assert lines == ["4 of 4 scenes"]
    more = Tracer()
    run(tmp_path, more, rows=ROWS | {"b": Row(use="masked", adapter="2")})
    assert [row for _, row, _ in more.calls] == ["b"] * 4


def test_diversity(tmp_path):
    results = run(tmp_path, Tracer(), diversity=2)
    assert results.diversity == 2
    assert list(results.variety) == [NONE, *ROWS]
    assert results.variety[NONE]["inside"].scenes == 2
    assert results.variety[NONE]["inside"].value > results.variety["a"]["inside"].value > 0
    assert results.variety_differences[NONE]["outside"].value > 0
    assert "### Diversity" in results.report().markdown()
    assert "### Diversity" not in run(tmp_path, Tracer()).report().markdown()


def test_another_run_is_refused(tmp_path):
    run(tmp_path, Tracer(), limit=1, about={"model": "a"})
    with pytest.raises(OutputError, match="holds results with model 'a', not 'b'"):
        run(tmp_path, Tracer(), limit=1, about={"model": "b"})
    with pytest.raises(OutputError, match="seed"):
        run(tmp_path, Tracer(), limit=1, about={"model": "a"}, seed=1)
    with pytest.raises(OutputError, match="adapter '1', not '2'"):
        run(tmp_path, Tracer(), limit=1, about={"model": "a"}, rows={"a": Row(use="masked", adapter="2")})


def test_nothing_to_do_is_refused(tmp_path):
    for options in ({"limit": 0}, {"rows": {}}):
        with pytest.raises(ValueError, match="at least one"):
            run(tmp_path, Tracer(), **options)
    assert not list(tmp_path.iterdir())


def test_files(tmp_path):
    results = run(tmp_path, Tracer(), limit=2, save_pictures=True)
    text = (tmp_path / "control.md").read_text()
    assert text == results.report().markdown()
    assert "n = 2 scenes" in text
    assert "| none | " in text
    written = json.loads((tmp_path / "control.json").read_text())["tables"]
    assert [Table.of(table) for table in written] == results.report().tables()
    assert len(list(tmp_path.glob("pictures/*/*.png"))) == 2 * 5
    assert not list(tmp_path.rglob("*.partial"))
