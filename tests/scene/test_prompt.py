import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloisonne.errors import SceneError
from cloisonne.scene import Region, Scene, from_coco, from_gligen, from_reco
from cloisonne.scene.before_after import halves
from cloisonne.scene.conditions.edit import Edit
from cloisonne.scene.prompt import Piece, at, escaped, is_empty, pieces, plain, switches, written

BOX = (0.0, 0.0, 0.5, 1.0)
LESS = 1 / 1.1
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a cat: red | blue", [("a cat: red | blue", 1.0)]),
        ("(cat)", [("cat", 1.1)]),
        ("((cat))", [("cat", 1.1 * 1.1)]),
        ("[cat]", [("cat", LESS)]),
        ("[[cat]]", [("cat", LESS * LESS)]),
        ("a (red:1.2) cat", [("a ", 1.0), ("red", 1.2), (" cat", 1.0)]),
        ("(a (red:2) cat:0.5)", [("a ", 0.5), ("red", 1.0), (" cat", 0.5)]),
        ("(red:.5)(blue: 2 )(green:3.)", [("red", 0.5), ("blue", 2.0), ("green", 3.0)]),
        ("(red:0)", [("red", 0.0)]),
        ("a (red:1) cat", [("a red cat", 1.0)]),
        ("(a:1.2)(b:1.2)", [("ab", 1.2)]),
        ("(ratio 16:9:1.5)", [("ratio 16:9", 1.5)]),
        (r"(ratio 16\:9)", [("ratio 16:9", 1.1)]),
        ("(a|b)", [("a|b", 1.1)]),
        (r"[a\|b]", [("a|b", LESS)]),
        ("()a[]({}:2)", [("a", 1.0)]),
        (r"\(a\) \[b\] \{c\} \\ \: d", [(r"(a) [b] {c} \ : d", 1.0)]),
        (r"C:\path and a \ alone \n", [(r"C:\path and a \ alone \n", 1.0)]),
        ("a\\", [("a\\", 1.0)]),
        (r"{(a:1.2) [b:c:0.5] \( { \}d", [(r"(a:1.2) [b:c:0.5] \( { \d", 1.0)]),
        ("({a:b}:2)", [("a:b", 2.0)]),
    ],
)
def test_weights_and_escapes(text: str, expected: list[tuple[str, float]]) -> None:
    assert pieces(text) == [Piece(*own) for own in expected]
    assert at(text, 0.3, 10) == (text if not re.search(r"[()\[\]{}\\]", text) else written(pieces(text)))


@pytest.mark.parametrize(
    ("text", "edges", "expected"),
    [
        ("[cat:dog:0.5]", {0.5}, ["cat", "cat", "dog", "dog"]),
        ("a [cat:dog:0.25], big", {0.25}, ["a cat, big", "a dog, big", "a dog, big", "a dog, big"]),
        ("[cat:dog:0]", {0.0}, ["dog"] * 4),
        ("[cat:dog:1]", {1.0}, ["cat"] * 4),
        ("[cat:dog:2]", {0.5}, ["cat", "cat", "dog", "dog"]),
        ("[cat:dog:9]", {1.0}, ["cat"] * 4),
        ("[dog:0.5]", {0.5}, ["", "", "dog", "dog"]),
        ("[:dog:0.5]", {0.5}, ["", "", "dog", "dog"]),
        ("[cat::0.5]", {0.5}, ["cat", "cat", "", ""]),
        (" [(cat): :0.5] ", {0.5}, [" (cat:1.1) ", " (cat:1.1) ", "", ""]),
        ("[cat:[dog:car:0.75]:0.25]", {0.25, 0.75}, ["cat", "dog", "dog", "car"]),
        ("[[cat:dog:0.75]:car:0.25]", {0.25, 0.75}, ["cat", "car", "car", "car"]),
        ("([cat:dog:0.5]:1.5)", {0.5}, ["(cat:1.5)", "(cat:1.5)", "(dog:1.5)", "(dog:1.5)"]),
        ("[(cat:2):dog:0.5]", {0.5}, ["(cat:2.0)", "(cat:2.0)", "dog", "dog"]),
        (r"[16\:9:{4:3}:0.5]", {0.5}, ["16:9", "16:9", "4:3", "4:3"]),
        (r"[\(a\):b:0.5]", {0.5}, [r"\(a\)", r"\(a\)", "b", "b"]),
    ],
)
def test_schedules(text: str, edges: set[float], expected: list[str]) -> None:
    assert switches(text, 4) == edges
    assert [at(text, index / 4, 4) for index in range(4)] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a (cat", r'The text "a (cat" has a ( at character 3 that is never closed; '),
        ("a (cat", r"write (word:1.2) for a weight, or \( for a literal bracket."),
        ("a cat)", r"has a ) at character 6 without an opening bracket; write (word:1.2) for a weight, or \) for"),
        ("[cat", r"has a [ at character 1 that is never closed; write [from:to:0.5] for a schedule, or \[ for"),
        ("cat]", r"has a ] at character 4 without an opening bracket; write [from:to:0.5] for a schedule, or \] for"),
        ("(cat]", "has a ] at character 5 without an opening bracket"),
        ("[a (cat] b)", "has a ] at character 8 without an opening bracket"),
        ("{cat", r"has a { at character 1 that is never closed; put literal text between { and }, or write \{"),
        ("cat}", r"has a } at character 4 without an opening bracket"),
        (
            "(cat:red)",
            r'has the weight "red"; write a number from 0 to 100, as in (word:1.2), or \: for a literal',
        ),
        ("(cat:)", 'has the weight ""'),
        ("(cat:-1)", 'has the weight "-1"'),
        ("(cat:101)", 'has the weight "101"'),
        ("(cat:1e999)", 'has the weight "1e999"'),
        ("(cat:nan)", 'has the weight "nan"'),
        ("((cat:20):20)", "has nested weights with the product 400; keep the product at most 100."),
        ("[cat:dog]", 'has the schedule "[cat:dog]"; write [from:to:when], where when is a fraction of the steps'),
        ("[cat:dog:1.5]", 'has the schedule "[cat:dog:1.5]"'),
        ("[cat:dog:-1]", 'has the schedule "[cat:dog:-1]"'),
        ("[a:b:c:0.5]", 'has the schedule "[a:b:c:0.5]"'),
        ("[a|b]", r"alternates words with |, which is not supported; write [from:to:0.5], or \| for a literal |."),
        ("(" * 60 + "a" + ")" * 60, "has brackets nested more than 50 deep; remove some."),
    ],
)
def test_invalid_syntax_is_refused(text: str, message: str) -> None:
    with pytest.raises(SceneError, match=re.escape(message)):
        pieces(text)


@given(WORDS)
def test_escaped_words_have_no_syntax(words: str) -> None:
    assert plain(escaped(words)) == words
    assert switches(escaped(words), 1) == set()


@given(st.lists(st.tuples(WORDS, st.floats(0, 100))))
def test_pieces_round_trip_through_text(expected: list[tuple[str, float]]) -> None:
    once = pieces(written(Piece(*own) for own in expected))
    assert pieces(written(once)) == once
    assert "".join(piece.words for piece in once) == "".join(words for words, _ in expected)


@pytest.mark.parametrize(("text", "empty"), [("", True), (" ( )[::0.5]{}", True), ("[:a:1]", False), ("(a:0)", False)])
def test_is_empty(text: str, empty: bool) -> None:
    assert is_empty(text) == empty


@pytest.mark.parametrize("field", ["phrase", "negative"])
def test_errors_name_the_region(field: str) -> None:
    given = {"name": "pet", "box": BOX, "phrase": "a cat", field: "a (cat"}
    with pytest.raises(SceneError, match=r'^Region "pet": The text "a \(cat" has a \( at character 3'):
        Region(**given)
    with pytest.raises(SceneError, match=r'^Region "region-0": The text'):
        Scene(regions=[{name: value for name, value in given.items() if name != "name"}])
    with pytest.raises(SceneError, match=r'^The text "a \(cat"'):
        Scene(**{"caption" if field == "phrase" else field: "a (cat"})


def test_a_phrase_without_words_is_missing() -> None:
    with pytest.raises(SceneError, match="has no phrase"):
        Region(box=BOX, phrase="()")


def test_a_scene_at_a_point_of_sampling() -> None:
    region = Region(name="pet", box=BOX, phrase="a [cat:dog:2]", negative="[blue::0.5]")
    scene = Scene(caption="[day:night:0.25]", negative="(grey:2)", regions=[region])
    later = scene.at_progress(0.5, 4)
    assert (later.caption, later.negative) == ("night", "(grey:2.0)")
    assert (later.regions[0].phrase, later.regions[0].negative) == ("a dog", "")
    assert Scene.from_json(scene.to_json()) == scene


def test_words_of_other_tools_are_literal() -> None:
    data = {
        "images": [{"id": 1, "width": 9, "height": 9, "caption": "a (room"}],
        "annotations": [{"image_id": 1, "bbox": [0, 0, 5, 5], "caption": "[cat:dog:0.5]"}],
    }
    for scene in (
        from_coco(data)[0],
        from_gligen(["[cat:dog:0.5]"], [BOX], caption="a (room")[0],
        from_reco("a (room <0> <0> <500> <500> [cat:dog:0.5]"),
    ):
        assert plain(scene.caption) == "a (room"
        assert plain(scene.regions[0].phrase) == "[cat:dog:0.5]"
        assert switches(scene.regions[0].phrase, 1) == set()


def test_edits_use_the_same_text_at_every_step() -> None:
    edit = {"kind": "change", "from": "a (red:1.3) car", "to": "a blue (car)"}
    region = Region(name="pet", box=BOX, edit=edit)
    assert not Edit(kind="change", before="a (red:1.3) car", after="a blue (car)").redraws
    assert halves(Scene(regions=[region])).after.regions[0].phrase == "a blue (car)"
    with pytest.raises(SceneError, match=r'^Region "pet": The text "\[a:b:0\.5\]" changes during sampling'):
        halves(Scene(regions=[region.replace(edit=edit | {"to": "[a:b:0.5]"})]))
    with pytest.raises(SceneError, match=r'^The text "\[a:b:0\.5\]"'):
        halves(Scene(caption="[a:b:0.5]", regions=[region]))
