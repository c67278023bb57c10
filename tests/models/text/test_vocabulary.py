"""The word list of the built-in family: it holds the words of the training world and no others."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cloisonne.cli.main import app
from cloisonne.errors import CheckpointError
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.text.vocabulary import WORDS, Vocabulary
from cloisonne.train.builtin.export import write_index
from cloisonne.train.builtin.family import RECIPE
from cloisonne.world.glyphs import CORE
from cloisonne.world.picture import Recipe, sample
from cloisonne.world.vocabulary import vocabulary
from cloisonne.world.words import caption, phrase


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    found = Vocabulary.read(BUILTIN)
    assert found is not None
    return found


def test_the_built_in_list_is_the_one_of_its_training(words: Vocabulary, tmp_path: Path) -> None:
    assert json.loads((BUILTIN / WORDS).read_text()) == vocabulary(RECIPE.styles)
    write_index(tmp_path, RECIPE.styles)
    assert (tmp_path / WORDS).read_bytes() == (BUILTIN / WORDS).read_bytes()
    assert len(words.groups["things"]) == len(CORE) == 64


@pytest.mark.parametrize("styles", [(), ("blueprint", "watercolour")])
def test_all_of_the_worlds_sentences_are_known(tmp_path: Path, styles: tuple[str, ...]) -> None:
    """With a style only where the base was trained on it."""
    write_index(tmp_path, styles)
    words = Vocabulary.read(tmp_path)
    assert words is not None
    assert [name for name, _ in words.groups.get("styles", ())] == list(styles)
    known = words.unknown("a tree, in the style of a blueprint")
    assert known == ([] if styles else ["style", "blueprint"])
    recipe = Recipe(styled=0.3 if styles else 0.0, styles=styles)
    for seed in range(300):
        rng, picture = np.random.default_rng(seed), sample(seed, recipe)
        boxes = [item.box for item in picture.items]
        texts = [caption(picture, boxes, rng), *(phrase(item, 0.1, rng) for item in picture.items)]
        assert [words.unknown(text) for text in texts] == [[]] * len(texts)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("", []),
        ("A Red CAR next to a small blue teddy bear, on a beach", []),
        ("an ice-cream and a cup of coffee", []),
        ("a whale shark on the beach", ["whale shark"]),
        ("a shark whale", ["shark"]),
        ("a striped red cat", ["striped"]),
        ("a haunted house in the city", ["haunted"]),
        ("cats and a zebra, a zebra", ["cats", "zebra"]),
        ("low quality, blurry", ["low quality", "blurry"]),
        ("a ball", ["ball"]),
        ("ein Hund und 猫", ["ein hund und 猫"]),
    ],
)
def test_unknown_phrases_are_found(words: Vocabulary, text: str, unknown: list[str]) -> None:
    assert words.unknown(text) == unknown


def test_learned_words_are_known(words: Vocabulary) -> None:
    assert words.unknown("a zebra and <my zebra>", ["<my zebra>"]) == ["zebra"]
    assert words.unknown("a Zebra", ["zebra"]) == []


@pytest.mark.parametrize(
    ("phrase", "near"),
    [
        ("whale shark", "whale"),
        ("doughnutt", "doughnut"),
        ("ball", "soccer ball"),
        ("cats", "cat"),
        ("kittens", "kitten"),
    ],
)
def test_known_words_like_it_are_named(words: Vocabulary, phrase: str, near: str) -> None:
    assert near in words.suggestions(phrase)
    assert words.suggestions("qqq") == []


@pytest.mark.parametrize("text", ["[]", "{}", '{"groups": 3, "grammar": []}', "no"])
def test_a_damaged_list_is_refused(tmp_path: Path, text: str) -> None:
    assert Vocabulary.read(tmp_path) is None
    (tmp_path / WORDS).write_text(text)
    with pytest.raises(CheckpointError, match="is no list of words"):
        Vocabulary.read(tmp_path)


def test_the_command_lists_them_by_group(words: Vocabulary, tiny_sd: Path) -> None:
    run = CliRunner().invoke(app, ["words"])
    assert run.exit_code == 0
    assert all(f"{group} ({len(own)})" in run.output for group, own in words.groups.items())
    assert "  doughnut, donut\n" in run.output
    listed = json.loads(CliRunner().invoke(app, ["words", "--json"]).output)
    assert listed == vocabulary(RECIPE.styles)["groups"]
    other = CliRunner().invoke(app, ["words", "--model", str(tiny_sd)])
    assert isinstance(other.exception, CheckpointError)
