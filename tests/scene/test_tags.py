"""Tags and choices of other programs: which are read, what is left, and what is refused."""

import re
from collections import Counter
from typing import Any

import pytest

from cloisonne.errors import SceneError
from cloisonne.scene.choices import chosen, options
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.prompt import plain
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.tags import added, untagged


def learned(word: str) -> str | None:
    return {"ink": "ink", "art": "<art>"}.get(word.lower())


@pytest.mark.parametrize(
    ("text", "left", "loras"),
    [
        ("a cat", "a cat", []),
        ("a cat, <lora:ink:0.8>", "a cat", [("ink", 0.8)]),
        ("<lora:ink>a cat", "a cat", [("ink", 1.0)]),
        ("<lora:ink:-1>, a cat, <LoRA:oil paint:.5>, red", "a cat, red", [("ink", -1.0), ("oil paint", 0.5)]),
        ("a <lyco:ink:2> cat", "a cat", [("ink", 2.0)]),
        ("(a cat <lora:ink:1>:1.2)", "(a cat :1.2)", [("ink", 1.0)]),
        ("{<lora:ink:1>} cat", "{<lora:ink:1>} cat", []),
        ("a < b, <b>, <ink>", "a < b, <b>, <ink>", []),
        ("embedding:ink cat", "ink cat", []),
        ("(embedding:Ink:1.2), embedding:art.", "(ink:1.2), <art>.", []),
        ("my embedding: ink", "my embedding: ink", []),
    ],
)
def test_tags_are_taken_out_of_the_text(text: str, left: str, loras: list[tuple[str, float]]) -> None:
    found = untagged(text, learned)
    assert (found.text, [(lora.name, lora.scale) for lora in found.loras], found.notes) == (left, loras, ())
    assert untagged(found.text, learned) == (left, (), ())


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("a cat BREAK a dog", '"BREAK", but prompts are not split into chunks; write a comma'),
        ("a cat AND a dog", '"AND", but prompts are not composed with it; write a comma'),
        ("a cat, embedding:oil", '"embedding:oil", but the model has no such embedding; load its file'),
        ("a __animal__ on the beach", '"__animal__", but wildcard files are not supported; list the options'),
        ("a cat <hypernet:x:1>", '"<hypernet:x:1>", but hypernetworks are not supported; use a LoRA'),
    ],
)
def test_unsupported_syntax_is_noted_with_what_to_write_instead(text: str, note: str) -> None:
    found = untagged(text, learned)
    assert found.text == text
    assert len(found.notes) == 1
    assert found.notes[0].startswith(note)


@pytest.mark.parametrize(
    "text", ["a break and a dog", "A CAT AND A DOG", "{a AND b}", r"\AND".lower(), "BREAKFAST, ANDY"]
)
def test_ordinary_words_are_no_operators(text: str) -> None:
    assert untagged(text, learned) == (text, (), ())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<lora:ink:high>", 'has "<lora:ink:high>"; write a name and one number, as in <lora:ink:0.8>'),
        ("<lora:ink:1:0.5>", "write a name and one number"),
        ("<lora:ink:20>", "scale is 20.0; give a number from -10 to 10"),
        ("[a cat <lora:ink:1>:0.5]", "inside square brackets, but a LoRA cannot be scheduled"),
    ],
)
def test_invalid_tags_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(SceneError, match=re.escape(complaint)):
        untagged(text, learned)


def test_scales_of_one_name_add_up() -> None:
    own, more = (Lora(name="ink", scale=0.5),), (Lora(name="oil"), Lora(name="ink", scale=0.25))
    assert added(own, more) == (Lora(name="ink", scale=0.75), Lora(name="oil"))


@pytest.mark.parametrize(
    ("text", "outcomes"),
    [
        ("a {red|blue|green} car", {"a red car", "a blue car", "a green car"}),
        ("{|a }cat", {"cat", "a cat"}),
        ("{a|b}{c|d}", {"ac", "ad", "bc", "bd"}),
        ("{(red:1.2)|blue} car", {"(red:1.2) car", "blue car"}),
        ("{a (b), c} car", {"{a (b), c} car"}),
        (r"\{a|b\} car", {r"\{a|b\} car"}),
        (r"{a\|b} car", {r"{a\|b} car"}),
    ],
)
def test_one_option_is_taken_by_the_seed(text: str, outcomes: set[str]) -> None:
    taken = Counter(chosen(text, seed, "caption") for seed in range(400))
    assert set(taken) == outcomes
    assert min(taken.values()) > 400 / len(outcomes) * 0.6
    assert all(chosen(text, seed, "caption") == chosen(text, seed, "caption") for seed in range(9))
    assert all(not list(options(outcome)) for outcome in outcomes)


def test_places_choose_apart() -> None:
    text = "{a|b|c|d}"
    assert any(chosen(text, seed, "caption") != chosen(text, seed, "phrase") for seed in range(9))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{2::red|blue}", "an option with a weight or a count"),
        ("{2$$red|blue}", "an option with a weight or a count"),
        ("{red|(blue}", "is never closed"),
    ],
)
@pytest.mark.parametrize("make", [lambda t: Scene(caption=t), lambda t: Region(box=(0, 0, 1, 1), phrase=t)])
def test_invalid_choices_are_refused(make: Any, text: str, complaint: str) -> None:
    with pytest.raises(SceneError, match=complaint):
        make(text)


def test_braces_without_a_bar_still_quote() -> None:
    assert plain("a {(red)} cat") == "a (red) cat"
