"""translations-v1: the items, what is measured of them, and runs that go on."""

from pathlib import Path

import numpy as np
import pytest

from cloisonne.app.measure_translations import translations
from cloisonne.errors import SceneError
from cloisonne.eval.judge import Judge
from cloisonne.eval.translations import Asked, Translated, asked, evaluate_translations
from cloisonne.models.builtin import BUILTIN
from cloisonne.world.picture import STYLES


def test_items_follow_from_their_numbers() -> None:
    for index in range(6):
        item, again = asked(index), asked(index)
        assert np.array_equal(item.truth, again.truth)
        assert item.task == ("style", "subject")[index % 2]
        assert not np.array_equal(item.source, item.truth)
    assert [asked(2 * k).wanted for k in range(7)] == list(STYLES[1:])


def test_a_subject_changes_at_its_place_alone() -> None:
    item = asked(1)
    changed = np.abs(item.source.astype(int) - item.truth).max(-1) > 0
    x0, y0, x1, y1 = (round(v * 128) for v in item.box)
    near = np.zeros_like(changed)
    near[max(0, y0 - 16) : y1 + 16, max(0, x0 - 16) : x1 + 16] = True
    assert changed.any()
    assert not changed[~near].any()


def test_copies_and_truth_are_where_they_should_be(tmp_path: Path) -> None:
    judge, calls = Judge.load(BUILTIN / "judge"), []

    def truth(item: Asked, seed: int) -> Translated:
        calls.append(item.index)
        return Translated(image=item.truth, rows=3, seconds=1.0)

    text = evaluate_translations({"known": truth}, judge, lambda rgb: rgb, tmp_path, limit=2, report=lambda line: None)
    lines = {line.split("|")[1].strip(): line for line in text.split("### subject")[1].splitlines() if "|" in line}
    assert lines["known"].split("|")[2].startswith(" 100.0")
    assert "0.0 [0.0, 0.0]" in (tmp_path / "translations.md").read_text()
    again = evaluate_translations({"known": truth}, judge, lambda rgb: rgb, tmp_path, limit=2, report=lambda line: None)
    assert (again, calls) == (text, [0, 1, 2, 3])


def test_rows_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for row, said in (("slow", "no preset"), ("a=fast,b", "The row"), ("copy-source=fast", "another name")):
        with pytest.raises(SceneError, match=said):
            translations(tmp_path, "builtin", rows=[row], limit=1, seed=0, device="cpu", save_pictures=False)
