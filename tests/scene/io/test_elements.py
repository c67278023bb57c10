"""ComfyUI's elements in and out."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloisonne.errors import SceneError
from cloisonne.scene import Region, Scene, from_elements, to_elements

POSTER = {
    "high_level_description": "a poster",
    "style_description": {"medium": "graphic design"},
    "compositional_deconstruction": {
        "background": "a deep red wall",
        "elements": [
            {"type": "obj", "bbox": [100, 200, 900, 800], "desc": "a (large) cat", "color_palette": ["#FF0000"]},
            {"type": "text", "bbox": [0, 0, 100, 1000], "text": "SALE", "desc": "a bold headline"},
        ],
    },
}


def elements_of(data: Any) -> list[Any]:
    return to_elements(from_elements(data)[0])[0]["compositional_deconstruction"]["elements"]


def test_the_published_form() -> None:
    scene, warnings = from_elements(POSTER)
    assert warnings == ()
    assert scene.caption == "a poster"
    assert scene.overlap == "priority"
    cat, headline = scene.regions
    assert cat.box == (0.2, 0.1, 0.8, 0.9)
    assert cat.phrase == r"a \(large\) cat"
    assert headline.phrase == 'a bold headline with the text "SALE"'
    assert headline.priority > cat.priority, "later elements lie above earlier ones"


@pytest.mark.parametrize("form", ["whole", "parts", "object", "list"])
def test_every_form_gives_the_same_regions(form: str) -> None:
    parts = POSTER["compositional_deconstruction"]
    data = {"whole": POSTER, "parts": parts, "object": {"elements": parts["elements"]}, "list": parts["elements"]}[form]
    scene, _ = from_elements(data)
    assert scene.regions == from_elements(POSTER)[0].regions
    assert scene.caption == {"whole": "a poster", "parts": "a deep red wall"}.get(form, "")


@pytest.mark.parametrize("form", [POSTER, POSTER["compositional_deconstruction"]])
def test_a_file_of_elements_is_a_scene(tmp_path: Path, form: dict[str, Any]) -> None:
    (tmp_path / "elements.json").write_text(json.dumps(form))
    assert Scene.load(tmp_path / "elements.json") == from_elements(form)[0]


PLACES = st.tuples(st.integers(0, 999), st.integers(0, 999), st.integers(1, 1000), st.integers(1, 1000)).filter(
    lambda one: one[0] < one[2] and one[1] < one[3]
)


@given(st.lists(st.tuples(PLACES, st.text("abc (){}[]:|", min_size=1).filter(str.strip)), max_size=5))
def test_boxes_texts_and_order_come_back(given: list[tuple[tuple[int, ...], str]]) -> None:
    elements = [{"type": "obj", "bbox": list(box), "desc": text.strip()} for box, text in given]
    assert elements_of({"elements": elements}) == elements


def test_an_element_without_a_box_goes_into_the_caption() -> None:
    scene, warnings = from_elements({"background": "a wall", "elements": [{"desc": "warm light"}]})
    assert (scene.caption, scene.regions) == ("a wall, warm light", ())
    assert warnings == ("Element 0 has no bbox; its description was added to the caption.",)


def test_what_elements_cannot_hold_is_a_warning() -> None:
    regions = [
        Region(name="low", ellipse=(0, 0, 0.5, 0.5), phrase="(a cat:1.2)", negative="dog"),
        Region(name="high", box=(0.25, 0.25, 1, 1), phrase="a hat", priority=3),
        Region(name="off", box=(0, 0, 1, 1), phrase="a car", weight=0),
        Region(name="map", box=(0, 0, 1, 1), edit={"kind": "remove", "phrase": "a dog"}),
        Region(name="new", polygon=[(0, 0), (0.0001, 0), (0, 0.0001)], phrase="b"),
    ]
    found, warnings = to_elements(Scene(caption="on [a] beach", regions=regions))
    assert found["high_level_description"] == found["compositional_deconstruction"]["background"] == "on a beach"
    assert found["compositional_deconstruction"]["elements"] == [
        {"type": "obj", "bbox": [0, 0, 1, 1], "desc": "b"},
        {"type": "obj", "bbox": [0, 0, 500, 500], "desc": "a cat"},
        {"type": "obj", "bbox": [250, 250, 1000, 1000], "desc": "a hat"},
    ]
    assert warnings == (
        'Region "new": elements have no polygon.',
        'Region "map" has no phrase and was left out.',
        'Region "off" has weight 0 and was left out.',
        'Region "low": elements have no ellipse, negative.',
    )


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ("a cat", 'elements is "a cat"'),
        ([7], 'Region "region-0": The element is 7'),
        ([{"bbox": [0, 0, 1, 1]}], "desc is null"),
        ([{"desc": "a cat", "bbox": [0, 0, 1]}], "bbox is"),
        ([{"desc": "a cat", "bbox": [0, 0, 1, 1001]}], "from 0 to 1000"),
        ([{"desc": "a cat", "bbox": [9, 0, 1, 1]}], "inverted or empty"),
        ([{"desc": 3, "bbox": [0, 0, 1, 1]}], "desc is 3"),
        ([{"desc": "a cat", "type": "video"}], "type is"),
    ],
)
def test_other_things_are_refused(elements: Any, message: str) -> None:
    with pytest.raises(SceneError) as caught:
        from_elements({"elements": elements})
    assert message in str(caught.value)
