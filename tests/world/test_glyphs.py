"""The glyph lists, their names and the held-out glyphs."""

import pytest

from cloisonne.world.glyphs import COLOURS, CORE, HELD_OUT, TRAINING, words_of


def test_core() -> None:
    assert len({core.char for core in CORE}) == len(CORE) == 64
    words = [word for core in CORE for word in core.words]
    assert len(set(words)) == len(words), "a word that means two glyphs could not be measured"
    assert all(word == word.strip().lower() != "" for word in words)
    recolourable = {core.name for core in CORE if core.recolourable}
    assert {"apple", "car", "umbrella", "bicycle", "tent"} <= recolourable
    assert not {"banana", "panda", "castle", "cat"} & recolourable
    assert len(COLOURS) == 7


def test_training_begins_with_the_core() -> None:
    assert TRAINING[:64] == tuple(core.char for core in CORE)
    assert len(set(TRAINING)) == len(TRAINING) >= 1000


def test_held_out_glyphs_are_in_no_training() -> None:
    assert len(set(HELD_OUT)) == len(HELD_OUT) == 60
    assert not set(HELD_OUT) & set(TRAINING)


@pytest.mark.parametrize(
    ("first", "last", "what"), [(0x1F550, 0x1F567, "clock faces"), (0x1F3FB, 0x1F3FF, "skin tones")]
)
def test_glyphs_that_only_differ_in_detail_are_left_out(first: int, last: int, what: str) -> None:
    assert not [char for char in TRAINING + HELD_OUT if first <= ord(char) <= last], what


def test_words() -> None:
    assert words_of("🍩") == ("doughnut", "donut")
    assert words_of("🦒") == ("giraffe face",)
    assert all(len(char) == 1 and words_of(char)[0] for char in TRAINING + HELD_OUT)
