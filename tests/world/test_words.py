"""Captions and phrases of world images: samples of the grammar."""

import re

import numpy as np
import pytest

from cloisonne.world.glyphs import COLOURS, CORE, words_of
from cloisonne.world.picture import BACKGROUNDS, STYLES, Item, Picture, Recipe, sample
from cloisonne.world.words import background_words, caption, corpus, described_place, phrase, place

PLACES = {"top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def item(char: str = "🚗", colour: str | None = None) -> Item:
    return Item(char=char, colour=colour, box=(0.1, 0.1, 0.4, 0.4), flip=False, angle=0.0)


def phrases_of(kind: Item, area: float, count: int = 300) -> set[str]:
    return {phrase(kind, area, rng(seed)) for seed in range(count)}


def test_phrases_vary() -> None:
    assert {"a car", "the car", "car", "an automobile", "a small car"} <= phrases_of(item(), 0.05)
    assert {"a red car", "the red car", "red automobile", "a big red car"} <= phrases_of(item(colour="red"), 0.3, 2000)


@pytest.mark.parametrize(
    ("area", "right", "wrong"), [(0.05, {"small"}, {"large", "big"}), (0.3, {"large", "big"}, {"small"})]
)
def test_size_words_are_true(area: float, right: set[str], wrong: set[str]) -> None:
    words = {word for text in phrases_of(item(), area) for word in text.split()}
    assert right <= words
    assert not wrong & words
    assert not {"small", "large", "big"} & {word for text in phrases_of(item(), 0.12) for word in text.split()}


@pytest.mark.parametrize("core", CORE, ids=lambda core: core.name)
def test_phrases_name_the_object_and_its_colour_in_good_english(core) -> None:
    for colour in (None, *COLOURS) if core.recolourable else (None,):
        for text in phrases_of(item(core.char, colour), 0.1, 40):
            noun = next((word for word in words_of(core.char) if text.endswith(word)), None)
            assert noun is not None
            assert [word for word in text.removesuffix(noun).split() if word in COLOURS] == ([colour] if colour else [])
            assert not re.match(r"a [aeio]|an [^aeiou]", text)


def test_places() -> None:
    ninths = {place((x / 3, y / 3, (x + 1) / 3, (y + 1) / 3)): (round(x), round(y)) for x in range(3) for y in range(3)}
    assert set(ninths) == PLACES
    assert ninths["top left"] == (0, 0)
    assert ninths["right"] == (2, 1)
    assert ninths["center"] == (1, 1)
    assert place((0.9, 0.9, 1, 1)) == "bottom right"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 0.2, 0.2), "small square in the top left"),
        ((0.4, 0.3, 0.7, 0.7), "medium square in the center"),
        ((0, 0.5, 1, 0.9), "large long in the bottom"),
        ((0.7, 0.2, 0.9, 0.8), "medium tall in the right"),
    ],
)
def test_places_in_words(box: tuple[float, float, float, float], expected: str) -> None:
    assert described_place(box) == expected


def test_captions_name_the_background() -> None:
    for seed in range(300):
        picture = sample(seed)
        boxes = [i.box for i in picture.items]
        plain = caption(picture, boxes, rng(seed), objects=False)
        assert plain in {background_words(picture.background, rng(k)) for k in range(60)}
        texts = caption(picture, boxes, rng(seed), objects=True)
        assert plain in texts, "the background comes first from the generator, whether objects are named or not"
        assert all(any(word in texts for word in words_of(i.char)) for i in picture.items)
        assert all(i.colour in texts for i in picture.items if i.colour)


def test_three_captions_in_four_name_the_objects() -> None:
    named = []
    for seed in range(1000):
        picture = sample(seed)
        texts = caption(picture, [i.box for i in picture.items], rng(seed))
        named.append(any(word in texts for word in words_of(picture.items[0].char)))
    assert 0.7 < np.mean(named) < 0.8


def test_place_words_in_captions_are_true() -> None:
    picture = Picture(seed=0, background="beach", style="natural", items=(item(),))
    texts = [caption(picture, [(0.1, 0.1, 0.3, 0.3)], rng(seed), objects=True) for seed in range(100)]
    placed = [text for text in texts if "in the top left" in text]
    assert 10 < len(placed) < 45
    assert not [text for text in texts if re.search(r"\b(right|bottom|center)\b", text)]


@pytest.mark.parametrize("style", STYLES)
def test_captions_name_the_style(style: str) -> None:
    picture = Picture(seed=0, background="beach", style=style, items=(item(),))
    texts = [caption(picture, [(0.1, 0.1, 0.3, 0.3)], rng(seed)) for seed in range(40)]
    key = {"natural": "", "neon on black": "neon"}.get(style, style)
    assert all(key in text for text in texts)
    assert all(other not in text for text in texts for other in STYLES if other not in (style, "natural"))


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_backgrounds_have_several_words_of_their_own(background: str) -> None:
    own = {background_words(background, rng(seed)) for seed in range(60)}
    others = {background_words(kind, rng(seed)) for kind in BACKGROUNDS if kind != background for seed in range(60)}
    assert len(own) == 4
    assert not own & others


def test_corpus_is_the_whole_grammar_and_always_the_same() -> None:
    sentences = list(corpus(400))
    assert sentences == list(corpus(400))
    text = "\n".join(sentences)
    for words in (COLOURS, PLACES, [word for core in CORE for word in core.words]):
        assert all(word in text for word in words)
    assert all(style.split()[0] in text for style in STYLES[1:])
    assert re.fullmatch(r"[a-z0-9 ,.'’&()\n]+", text), "words only: the tokenizer's bytes are for surprises"


def test_held_out_glyphs_have_captions() -> None:
    picture = sample(0, Recipe(chars=("🦒",)))
    assert "giraffe" in phrase(picture.items[0], 0.1, rng())
