"""Rows of ``evaluate edits`` on the command line, and the options that reach the editor."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cloisonne.bench import edits as measure_edits
from cloisonne.bench.arguments import edit_rows
from cloisonne.bench.edits import row_of
from cloisonne.cli import main as cli
from cloisonne.errors import SceneError
from cloisonne.eval.pairs import Pair, pair
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene
from cloisonne.scene.before_after import halves


def test_rows() -> None:
    assert edit_rows(["follow", "words", "own=follow,self_attention_share=0.5,follow=true,keywords=3,boost=none"]) == {
        "follow": ("follow", {}),
        "words": ("words", {}),
        "own": ("follow", {"self_attention_share": 0.5, "follow": True, "keywords": 3, "boost": "none"}),
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a=",
        "=x",
        "follow,self_attention_share=1",
        "a=follow,self_attention_share",
        "a=words,self_attention_share=1",
        "../a=follow",
    ],
)
def test_an_unknown_row_is_one_clear_sentence(text: str) -> None:
    with pytest.raises(SceneError, match="give PRESET, or NAME=PRESET") as refused:
        edit_rows([text])
    assert f'"{text}"' in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["magic", "a=magic", "a=follow,magic=1"])
def test_an_unknown_preset_or_option_is_named(text: str) -> None:
    with pytest.raises(SceneError, match="magic"):
        edit_rows([text])


@pytest.mark.parametrize("rows", [["truth=follow"], ["copy=words"], ["a=follow", "a=words"]])
def test_a_name_in_use_is_refused(rows: list[str]) -> None:
    with pytest.raises(SceneError, match="another name"):
        edit_rows(rows)


class Editor:
    """Replaces ``edit``: returns an image and records its arguments."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, scene: Scene, model: Model, **options: Any) -> SimpleNamespace:
        self.calls.append({"scene": scene, **options})
        image = generate(Scene(width=64, height=64, steps=1), model, seed=0).image.resize((128, 128))
        named = {"before": image, "raw": image}
        return SimpleNamespace(image=image, named=named, report={"rows": 8, "seconds": 0.5})


def test_options_reach_the_editor(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = Editor()
    monkeypatch.setattr(measure_edits, "edit", editor)
    item = pair(0)
    for mode in ("real", "generated"):
        made = row_of("follow", {"self_attention_share": 0.5}, tiny, mode).make(item, 7)
        assert (made.rows, made.seconds, made.after.shape) == (8, 0.5, (128, 128, 3))
    given, drawn = editor.calls
    assert (given["preset"], given["self_attention_share"], given["seed"]) == ("follow", 0.5, 7)
    assert given["scene"].background is not None
    assert drawn["scene"].background is None
    assert row_of("follow", {"self_attention_share": 0.5}, tiny, "real").about == "follow,self_attention_share=0.5"


@pytest.mark.parametrize("index", [1, 3])
def test_words_fill_the_boxes_and_nothing_else(tiny: Model, index: int) -> None:
    item = pair(index)
    made = row_of("words", {}, tiny, "real").make(item, 7)
    assert made.raw is not None
    changed = (made.after != made.before).any(-1)
    assert np.array_equal(made.before, item.before)
    assert changed[item.mask].any()
    assert not changed[~item.mask].any()
    assert np.array_equal(made.after[item.mask], made.raw[item.mask])
    assert made.rows == 2 * tiny.native.steps


def test_words_are_filled_into_a_generated_image(tiny: Model) -> None:
    item: Pair = pair(0)
    made = row_of("words", {}, tiny, "generated").make(item, 7)
    drawn = generate(halves(item.scene(None, 7)).before, tiny)
    assert np.array_equal(made.before, np.asarray(drawn.image))
    assert made.rows == 4 * tiny.native.steps


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["cloisonne", "evaluate", "edits", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_family: Path, capsys: Any) -> None:
    editor = Editor()
    monkeypatch.setattr(measure_edits, "edit", editor)
    out = tmp_path / "out"
    given = [
        "-o",
        out,
        "--model",
        tiny_family,
        "--row",
        "own=follow,self_attention_share=0.5",
        "--limit",
        1,
        "--task",
        "change",
    ]
    assert run(monkeypatch, *given, "--save-pictures") == 0
    output = capsys.readouterr().out
    assert "n = 1 pairs." in output
    assert "| own |" in output
    assert len(editor.calls) == 1
    assert (out / "pictures" / "own" / "0002.png").is_file()


@pytest.mark.parametrize("wrong", [["--task", "move"], ["--mode", "dreamt"], ["--row", "magic"], ["--limit", "0"]])
def test_bad_input_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: list[str]) -> None:
    assert run(monkeypatch, "-o", tmp_path / "out", *wrong) == 2
    assert not (tmp_path / "out").exists()
