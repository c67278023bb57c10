"""Rows of ``evaluate control`` on the command line."""

from pathlib import Path

import pytest

from cloisonne.bench.arguments import RowSpec, control_rows
from cloisonne.errors import SceneError


def test_rows():
    assert control_rows(["a=some/folder", "a:both=x", "a:conditional=x", "a:unmasked=x=y", "b:map=z"]) == [
        RowSpec("a", "masked", Path("some/folder")),
        RowSpec("a-both", "both", Path("x")),
        RowSpec("a-conditional", "conditional", Path("x")),
        RowSpec("a-unmasked", "unmasked", Path("x=y")),
        RowSpec("b-map", "map", Path("z")),
    ]


@pytest.mark.parametrize("text", ["a", "a=", "=x", "a:soft=x", "a:=x", "../a=x", ":map=x", "a b=x"])
def test_an_unknown_row_is_one_clear_sentence(text):
    with pytest.raises(SceneError, match="give NAME=FOLDER") as refused:
        control_rows([text])
    assert text in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("rows", [["none=x"], ["truth=x"], ["truth:map=x", "truth-map=x"], ["a=x", "a=y"]])
def test_a_name_in_use_is_refused(rows):
    with pytest.raises(SceneError, match="another name"):
        control_rows(rows)
