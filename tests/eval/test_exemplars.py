"""The exemplar benchmark from end to end, with a judge that sees mean colours."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cloisonne.errors import OutputError
from cloisonne.eval import exemplars
from cloisonne.eval.exemplars import evaluate_exemplars
from cloisonne.eval.holes import Hole, hole
from cloisonne.eval.judge import EMBEDDING, Verdict
from cloisonne.eval.metrics.holes import Gallery, fill_figures
from cloisonne.eval.metrics.quality import Mixture
from cloisonne.world.glyphs import COLOURS


@torch.no_grad()
def judge(pictures: Tensor) -> Verdict:
    """The embedding is the picture at 4 x 5 pixels (60 numbers) and four zeros; every cell shows the first glyph."""
    n = len(pictures)
    small = torch.nn.functional.adaptive_avg_pool2d(pictures, (4, 5)).flatten(1)
    classes = torch.zeros(n, 2, 16, 16)
    classes[:, 1] = 9.0
    embedding = torch.nn.functional.pad(small, (0, EMBEDDING - 60))
    return Verdict(classes, torch.zeros(n, 8, 16, 16), torch.zeros(n, 8), embedding)


class Painter:
    """Fills the hole with grey that depends on the seed."""

    def __init__(self, stop_after: int = 10**6) -> None:
        self.left, self.calls = stop_after, 0

    def __call__(self, item: Hole, seed: int) -> np.ndarray:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.calls += 1
        return np.where(item.mask[..., None], np.uint8(seed * 37 % 200), item.source)


def same(rgb: np.ndarray) -> np.ndarray:
    return rgb


@pytest.fixture(autouse=True)
def few_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exemplars, "MIN_PICTURES", 12)


def test_a_stopped_run_goes_on_to_the_same_table(tmp_path: Path) -> None:
    whole = evaluate_exemplars({"grey": Painter()}, judge, same, tmp_path / "a", limit=4, report=lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        evaluate_exemplars({"grey": Painter(2)}, judge, same, tmp_path / "b", limit=4, report=lambda line: None)
    rest, lines = Painter(), []
    parts = evaluate_exemplars({"grey": rest}, judge, same, tmp_path / "b", limit=4, report=lines.append)
    assert lines == ["3 of 4 holes", "4 of 4 holes"]
    assert rest.calls == 2
    assert parts == whole


def test_another_run_is_refused(tmp_path: Path) -> None:
    evaluate_exemplars({"grey": Painter()}, judge, same, tmp_path, limit=1, report=lambda line: None)
    with pytest.raises(OutputError, match="seed"):
        evaluate_exemplars({"grey": Painter()}, judge, same, tmp_path, limit=1, seed=1, report=lambda line: None)


def test_ceilings_keep_the_outside_and_know_the_subject(tmp_path: Path) -> None:
    text = evaluate_exemplars({"grey": Painter()}, judge, same, tmp_path, limit=6, report=lambda line: None)
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "truth-vae" in rows
    assert "copy-paste" in rows
    assert (tmp_path / "exemplars.md").read_text() == text
    head = [name.strip() for name in next(line for line in text.splitlines() if "outside, max" in line).split("|")]
    assert rows["grey"].split("|")[head.index("outside, max")].strip().startswith("0.00")


def test_the_colour_is_measured_on_recoloured_exemplars_only() -> None:
    holes = [hole(index) for index in range(24)]
    known = Gallery(judge)

    def red(pictures: Tensor) -> Verdict:
        colours = torch.zeros(len(pictures), 1 + len(COLOURS), 16, 16)
        colours[:, 1 + COLOURS.index("red")] = 9.0
        return replace(judge(pictures), colours=colours)

    measured = {item.colour: fill_figures(item.truth, item, red, known).colour for item in holes}
    assert measured.pop(None) is None
    assert measured == {colour: colour == "red" for colour in measured}
    assert {"red"} < measured.keys()


def test_the_spread_counts_seeds(tmp_path: Path) -> None:
    painter = Painter()
    text = evaluate_exemplars(
        {"grey": painter}, judge, same, tmp_path, limit=2, spread_items=2, report=lambda line: None
    )
    assert painter.calls == 2 + 2 * exemplars.SPREAD_SEEDS
    assert "spread: 2" in text


def test_a_run_with_other_columns_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {name: heading for name, heading in exemplars.MEASURES.items() if name != "colour"}
    with monkeypatch.context() as earlier:
        earlier.setattr(exemplars, "MEASURES", columns)
        evaluate_exemplars({"grey": Painter()}, judge, same, tmp_path, limit=1, report=lambda line: None)
    with pytest.raises(OutputError, match="measures"):
        evaluate_exemplars({"grey": Painter()}, judge, same, tmp_path, limit=1, report=lambda line: None)


def test_a_run_with_another_reading_of_colours_is_refused(tmp_path: Path) -> None:
    evaluate_exemplars({"grey": Painter()}, judge, same, tmp_path, limit=1, report=lambda line: None)
    settings = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({key: settings[key] for key in settings if key != "colour"}))
    with pytest.raises(OutputError, match="colour None"):
        evaluate_exemplars({"grey": Painter()}, judge, same, tmp_path, limit=1, report=lambda line: None)


def test_real_pictures_score_a_half() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(400, 8))
    mixture = Mixture.fit(real)
    assert 0.4 < mixture.quality(rng.normal(size=(400, 8))).mean() < 0.6
    assert mixture.quality(rng.normal(size=(50, 8)) + 9).max() == 0
