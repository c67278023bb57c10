"""Results survive a stop at any moment, and two runs never mix."""

from pathlib import Path

import pytest

from cloisonne.errors import OutputError
from cloisonne.eval.items import Items, open_folder


def test_items_are_there_again(tmp_path: Path) -> None:
    items = Items(tmp_path / "items.jsonl")
    assert 3 not in items
    items.add(3, {"found": True})
    items.add(4, {"found": False})
    again = Items(tmp_path / "items.jsonl")
    assert 3 in again
    assert again[4] == {"index": 4, "found": False}
    assert len((tmp_path / "items.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("cut", [1, 7, 15])
def test_line_that_was_cut_off_is_done_again(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "items.jsonl"
    items = Items(file)
    items.add(0, {"found": True})
    items.add(1, {"found": True})
    whole = file.read_text()
    file.write_text(whole[:-cut])
    again = Items(file)
    assert 0 in again
    assert 1 not in again
    again.add(1, {"found": True})
    assert file.read_text() == whole


def test_folder_continues_its_own_run_only(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    open_folder(folder, {"seed": 0, "sizes": (1, 2)})
    open_folder(folder, {"seed": 0, "sizes": (1, 2)})
    with pytest.raises(OutputError, match=r"holds results with seed 0, not 1: choose another folder"):
        open_folder(folder, {"seed": 1, "sizes": (1, 2)})
    with pytest.raises(OutputError, match=r"holds results with sizes \[1, 2\], not None"):
        open_folder(folder, {"seed": 0})


def test_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot hold the results"):
        open_folder(tmp_path / "file", {})
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(OutputError, match="cannot hold the results"):
        open_folder(tmp_path, {})
