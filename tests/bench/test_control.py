"""Rows of ``evaluate control`` as they are written on the command line."""

from pathlib import Path

import pytest

from cloisonne.bench.arguments import ControlRow as Asked
from cloisonne.bench.arguments import control_rows as asked_of
from cloisonne.errors import SceneError


def test_rows():
    assert asked_of(["a=some/folder", "a:unmasked=x=y", "b:map=z"]) == [
        Asked("a", "masked", Path("some/folder")),
        Asked("a-unmasked", "unmasked", Path("x=y")),
        Asked("b-map", "map", Path("z")),
    ]


@pytest.mark.parametrize("text", ["a", "a=", "=x", "a:soft=x", "a:=x", "../a=x", ":map=x", "a b=x"])
def test_an_unknown_row_is_one_clear_sentence(text):
    with pytest.raises(SceneError, match="give NAME=FOLDER") as refused:
        asked_of([text])
    assert text in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("rows", [["none=x"], ["truth=x"], ["truth:map=x", "truth-map=x"], ["a=x", "a=y"]])
def test_a_name_that_is_taken(rows):
    with pytest.raises(SceneError, match="another name"):
        asked_of(rows)
