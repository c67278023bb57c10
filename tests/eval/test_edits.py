"""The benchmark of edits from end to end, with a judge that finds no objects and a constant text similarity."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cloisonne.errors import OutputError
from cloisonne.eval.edits import Made, Row, evaluate_edits
from cloisonne.eval.judge import EMBEDDING, Verdict
from cloisonne.eval.pairs import Pair


@torch.no_grad()
def judge(pictures: Tensor) -> Verdict:
    """Every cell is empty, and every crop is the first glyph; colours are unknown."""
    n = len(pictures)
    classes = torch.zeros(n, 3, 16, 16)
    classes[:, 0] = 9.0
    return Verdict(classes, torch.zeros(n, 8, 16, 16), torch.zeros(n, 8), torch.zeros(n, EMBEDDING))


def similarity(crops: object, texts: list[str]) -> list[float]:
    return [50.0] * len(texts)


class Greyer:
    """Fills the boxes with grey and reports 40 rows and 1.5 seconds."""

    def __init__(self, stop_after: int = 10**6) -> None:
        self.left, self.seeds = stop_after, []

    def __call__(self, item: Pair, seed: int) -> Made:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.seeds.append(seed)
        after = np.where(item.mask[..., None], np.uint8(128), item.before)
        return Made(before=item.before, after=after, raw=after, rows=40, seconds=1.5)


def evaluated(out: Path, make: Greyer, about: str = "", **settings: object) -> str:
    given = {"limit": 1, "report": lambda line: None, **settings}
    return evaluate_edits({"grey": Row(make=make, about=about)}, judge, similarity, lambda rgb: rgb // 2, out, **given)


def cells(text: str, row: str) -> list[dict[str, str]]:
    """The cells of a row, by their headings, in every table."""
    found, heads = [], []
    for line in text.splitlines():
        if line.startswith("|"):
            parts = [part.strip() for part in line.strip("|").split("|")]
            heads = parts if parts[0] in ("", "success") else heads
            if parts[0] == row:
                found.append(dict(zip(heads, parts, strict=True)))
    return found


def test_a_stopped_run_resumes_to_the_same_tables(tmp_path: Path) -> None:
    lines: list[str] = []
    whole = evaluated(tmp_path / "a", Greyer(), report=lines.append)
    assert lines == [f"{done} of 4 pairs" for done in (1, 2, 3, 4)]
    with pytest.raises(KeyboardInterrupt):
        evaluated(tmp_path / "b", Greyer(3))
    rest = Greyer()
    lines.clear()
    assert evaluated(tmp_path / "b", rest, report=lines.append) == whole
    assert lines == ["4 of 4 pairs"]
    assert rest.seeds == [3]
    assert (tmp_path / "b" / "edits.md").read_text() == whole


@pytest.mark.parametrize("other", [{"seed": 1}, {"mode": "generated"}, {"about": "other"}])
def test_another_run_or_row_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    evaluated(tmp_path, Greyer())
    with pytest.raises(OutputError, match=next(iter(other))):
        evaluated(tmp_path, Greyer(), **other)


def test_tables_of_tasks_costs_and_references(tmp_path: Path) -> None:
    text = evaluated(tmp_path, Greyer(), limit=2)
    assert [line for line in text.splitlines() if line.startswith("####")] == [
        *(f"#### {task}" for task in ("add", "remove", "change", "mixed")),
        "#### all tasks",
    ]
    assert text.count("n = 2 pairs.") == 4
    assert "n = 8 pairs." in text
    grey, truth, copy = (cells(text, row)[4] for row in ("grey", "truth", "copy"))
    assert (grey["rows"], grey["seconds"]) == ("40.00 [–, n < 10]", "1.50 [–, n < 10]")
    assert (truth["rows"], truth["raw outside, max"]) == ("–", "–")
    assert grey["raw outside, max"] == "0.00 [–, n < 10]"
    assert truth["truth PSNR"] == "99.00 [–, n < 10]"
    assert copy["SSIM-e"] == "100.0 [–, n < 10]"
    assert copy["structure x1e3"] == "0.00 [–, n < 10]"
    assert cells(text, "truth-vae")[4]["raw outside, max"] != "–"
    less = cells(text, "copy")[5]
    assert less["background MSE x1e4"] == "0.00 [–, n < 10]"
    assert less["rows"] == "–"
    assert len(cells(text, "grey")) == 6
    assert cells(text, "grey")[5].keys() == {"success", "add", "remove", "change", "mixed"}


def test_tasks_can_be_chosen(tmp_path: Path) -> None:
    make = Greyer()
    text = evaluated(tmp_path, make, limit=2, tasks=["mixed", "remove"], seed=100)
    assert make.seeds == [101, 103, 105, 107]
    assert "#### all tasks\n\nn = 4 pairs." in text
    assert "#### add" not in text
    assert cells(text, "grey")[0]["text"] == "–"


def test_generated_pairs_have_no_ground_truth(tmp_path: Path) -> None:
    text = evaluated(tmp_path, Greyer(), mode="generated", tasks=["add"], save_pictures=True)
    assert cells(text, "truth") == cells(text, "copy") == []
    assert cells(text, "grey")[0]["truth PSNR"] == "–"
    assert "Both images are generated." in text
    assert [file.name for file in (tmp_path / "pictures" / "grey").iterdir()] == ["0000.png"]


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"mode": "dreamt"}, {"tasks": ["move"]}])
def test_what_cannot_be_run_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="give a limit of at least 1"):
        evaluated(tmp_path / "out", Greyer(), **wrong)
    assert not (tmp_path / "out").exists()
