"""Every way in which a scene can be wrong is one sentence: what was given, which region, what to do."""

import json
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloisonne.errors import CloisonneError, ImageError, SceneError
from cloisonne.scene import Region, Scene
from cloisonne.scene.io.image_ref import encoded

BOX = [0.1, 0.1, 0.5, 0.5]
NAN = math.nan


def shoe(**fields: Any) -> dict[str, Any]:
    return {"regions": [{"name": "shoe", "phrase": "a shoe"} | fields]}


SHOES = {
    "box outside": (shoe(box=[0.5, 0.5, 1.2, 0.9]), "reaches outside the canvas", "from 0 to 1"),
    "box in pixels": (shoe(box=[10, 10, 60, 60]), "reaches outside the canvas", "not pixels"),
    "box inverted": (shoe(box=[0.6, 0.1, 0.2, 0.5]), "[0.6, 0.1, 0.2, 0.5], which is inverted", "x0 < x1"),
    "box without area": (shoe(box=[0.2, 0.1, 0.2, 0.5]), "inverted or empty", "x0 < x1"),
    "box with NaN": (shoe(box=[0.1, NAN, 0.5, 0.5]), "NaN", "give four numbers"),
    "box with infinity": (shoe(box=[0.1, 0.1, math.inf, 0.5]), "Infinity", "give four numbers"),
    "box of a number beyond floats": (shoe(box=[0, 0, 1, 10**400]), "box is", "give four numbers"),
    "box of three": (shoe(box=[0.1, 0.1, 0.5]), "box is [0.1, 0.1, 0.5]", "give four numbers"),
    "box of words": (shoe(box="left"), 'box is "left"', "give four numbers"),
    "box of text": (shoe(box=["0.1", "0.1", "0.5", "0.5"]), '"0.1"', "give four numbers"),
    "ellipse inverted": (shoe(ellipse=[0.6, 0.1, 0.2, 0.5]), "ellipse is [0.6", "x0 < x1"),
    "polygon on a line": (shoe(polygon=[[0, 0], [0.5, 0.5], [1, 1]]), "lie on a line", "around an area"),
    "polygon on a point": (shoe(polygon=[[0.5, 0.5]] * 4), "lie on a line", "around an area"),
    "polygon of two": (shoe(polygon=[[0, 0], [1, 1]]), "polygon is [[0, 0], [1, 1]]", "list of 3"),
    "polygon outside": (shoe(polygon=[[0, 0], [1, 1], [0, 1.5]]), "[0, 1.5], which lies outside", "from 0 to 1"),
    "polygon with NaN": (shoe(polygon=[[0, 0], [1, 1], [0, NAN]]), "[0, NaN]", "give two numbers"),
    "polygon of a number beyond floats": (shoe(polygon=[[0, 0], [1, 1], [0, 10**400]]), "the point", "two numbers"),
    "polygon of many": (shoe(polygon=[[0, 0], [1, 1], [0, 1]] * 4000), "polygon is", "3 to 10000 points"),
    "no shape": (shoe(), "has no shape", "box, ellipse, polygon, mask, rle"),
    "two shapes": (shoe(box=BOX, mask="shoe.png"), "2 shapes, box and mask", "keep one"),
    "runs of another size": (shoe(rle={"size": [2, 2], "counts": [3]}), "add up to 3", "add up to 4"),
    "runs as a list": (shoe(rle=[1, 2]), "rle is [1, 2]", "give an object"),
    "no phrase": ({"regions": [{"name": "shoe", "box": BOX}]}, "has no phrase", "describe what belongs there"),
    "empty phrase": (shoe(box=BOX, phrase=" "), "has no phrase", "describe what belongs there"),
    "phrase of a number": (shoe(box=BOX, phrase=3), "phrase is 3", "give text"),
    "phrase of control characters": (shoe(box=BOX, phrase="a\0b"), "'\\x00'", "remove it"),
    "endless phrase": (shoe(box=BOX, phrase="a" * 20_000), "20000 characters", "shorten"),
    "unknown field": (shoe(box=BOX, wieght=2), '"wieght"', 'did you mean "weight"?'),
    "another tool's field": (shoe(bbox=BOX), '"bbox"', 'did you mean "box"?'),
    "negative weight": (shoe(box=BOX, weight=-1), "weight is -1", "at least 0"),
    "weight NaN": (shoe(box=BOX, weight=NAN), "weight is NaN", "at least 0"),
    "weight beyond floats": (shoe(box=BOX, weight=10**400), "weight is", "at least 0"),
    "weight infinite": (shoe(box=BOX, weight=math.inf), "weight is Infinity", "at least 0"),
    "start after stop": (shoe(box=BOX, start=0.8, stop=0.2), "start is 0.8 and stop is 0.2", "not after stop"),
    "stop beyond the end": (shoe(box=BOX, stop=2), "stop is 2", "from 0"),
    "feather beyond the middle": (shoe(box=BOX, feather=0.8), "feather is 0.8", "from 0"),
    "guidance below zero": (shoe(box=BOX, guidance=-2), "guidance is -2", "from 0"),
    "seed below zero": (shoe(box=BOX, seed=-2), "seed is -2", "whole number from 0"),
    "seed a fraction": (shoe(box=BOX, seed=1.5), "seed is 1.5", "whole number"),
    "strict a word": (shoe(box=BOX, strict="no"), 'strict is "no"', "true or false"),
    "priority true": (shoe(box=BOX, priority=True), "priority is true", "whole number"),
    "mask a number": (shoe(mask=3), "mask is 3", "give the path"),
    "mask an address": (shoe(mask="https://example.org/shoe.png"), "not fetched", "path of a file"),
    "mask broken base64": (shoe(mask="data:image/png;base64,%%%"), "base64", "encode the file again"),
} | {
    "concept a number": (shoe(box=BOX, phrase="", concept=3), "concept is 3", "give the path"),
    "concept of nothing": (shoe(box=BOX, phrase="", concept={}), "concept is {}", '{"image": "ref.png"}'),
    "concept without a picture": (
        shoe(box=BOX, phrase="", concept={"word": "cat"}),
        "neither an image nor a file",
        '"file"',
    ),
    "concept too strong": (
        shoe(box=BOX, phrase="", concept={"image": "cat.png", "concept_strength": 2.0}),
        "concept_strength is 2.0",
        "from 0",
    ),
    "concept's file an address": (
        shoe(box=BOX, phrase="", concept={"file": "https://example.org/cat.safetensors"}),
        "not fetched",
        "path of a file",
    ),
    "concept's file broken": (
        shoe(box=BOX, phrase="", concept={"file": "data:image/png;base64,AAAA"}),
        "file is",
        "data:application/octet-stream",
    ),
    "concept and phrase": (shoe(box=BOX, concept="cat.png"), "both concept and phrase", "remove phrase"),
    "edit a phrase": (shoe(box=BOX, edit="a crown"), 'edit is "a crown"', '{"kind": "add"'),
    "edit of nothing": (
        {"regions": [{"name": "shoe", "box": BOX, "edit": {"kind": "add"}}]},
        'edit of kind add has no "phrase"',
        "describe the object in words",
    ),
    "edit without from": (
        {"regions": [{"name": "shoe", "box": BOX, "edit": {"kind": "change", "to": "a hat"}}]},
        'edit of kind change has no "from"',
        "in words",
    ),
    "edit with too much": (
        {"regions": [{"name": "shoe", "box": BOX, "edit": {"kind": "remove", "phrase": "a hat", "to": "a cap"}}]},
        'takes no "to", but it is "a cap"',
        "remove it",
    ),
    "edit and phrase": (
        shoe(box=BOX, edit={"kind": "add", "phrase": "a hat"}),
        "has both edit and phrase",
        "remove phrase",
    ),
    "control a name": (shoe(box=BOX, control="edges.png"), 'control is "edges.png"', '{"kind": "canny"'),
    "control of nothing": (shoe(box=BOX, control={"kind": "canny"}), "neither an image nor a photo", '"from"'),
    "control of two": (
        shoe(box=BOX, control={"kind": "canny", "image": "a.png", "from": "b.png"}),
        "both an image and a photo",
        '"from"',
    ),
    "control of no kind": (
        shoe(box=BOX, control={"kind": "magic", "image": "a.png"}),
        'kind is "magic"',
        "one of canny, sobel",
    ),
    "control that needs a network": (
        shoe(box=BOX, control={"kind": "depth", "from": "a.png"}),
        "cannot be computed here",
        "choose one of canny, sobel, color",
    ),
    "control too strong": (
        shoe(box=BOX, control={"kind": "canny", "image": "a.png", "strength": 3.0}),
        "strength is 3.0",
        "from 0",
    ),
    "no phrase and no exemplar": (shoe(box=BOX, phrase=""), "has no phrase", "describe what belongs there"),
    "similarity to nothing": (shoe(box=BOX, similarity=5.0), "similarity is 5.0", "has no exemplar; give one"),
    "similarity and guidance": (
        shoe(box=BOX, exemplar="cat.png", similarity=5.0, guidance=2.0),
        "the same option",
        "keep one",
    ),
    "exemplar a number": (shoe(box=BOX, exemplar=3), "exemplar is 3", "give the path"),
    "exemplar an object": (
        shoe(box=BOX, exemplar={"strength": 1}),
        "exemplar is",
        '{"image": ..., "strength": 1.0}',
    ),
    "exemplar too strong": (
        shoe(box=BOX, exemplar={"image": "cat.png", "strength": 2.0}),
        "strength is 2.0",
        "from 0",
    ),
    "exemplar an address": (shoe(box=BOX, exemplar="https://example.org/cat.png"), "not fetched", "path of a file"),
}

SCENES = {
    "unknown field": ({"captoin": ""}, '"captoin"', 'did you mean "caption"?'),
    "far unknown field": ({"zzz": ""}, '"zzz"', "the fields are version, width"),
    "another tool's field": ({"prompt": "a"}, '"prompt"', 'did you mean "caption"?'),
    "translating": ({"translating": 3}, "translating is 3", '{"preset": "vct"}'),
    "version 2": ({"version": 2, "layers": []}, "version is 2", "version 1"),
    "version text": ({"version": "1"}, 'version is "1"', "version 1"),
    "version true": ({"version": True}, "version is true", "version 1"),
    "steps 0": ({"steps": 0}, "steps is 0", "from 1 to 1000"),
    "steps a fraction": ({"steps": 2.5}, "steps is 2.5", "whole number"),
    "steps text": ({"steps": "20"}, 'steps is "20"', "whole number"),
    "size off the grid": ({"width": 129}, "width is 129", "multiple of 8"),
    "size absurd": ({"height": 10**9}, "height is 1000000000", "from 64 to 4096"),
    "guidance NaN": ({"guidance": NAN}, "guidance is NaN", "from 0"),
    "guidance_rescale": ({"guidance_rescale": 2}, "guidance_rescale is 2", "from 0"),
    "guidance_interval": ({"guidance_interval": [0.5, 0.1]}, "[0.5, 0.1]", "start <= stop"),
    "sampler": ({"sampler": "euler_a"}, '"euler_a"', "euler-ancestral"),
    "method": ({"method": "magic"}, '"magic"', "reco, bounded"),
    "region_boost": ({"region_boost": 0.5}, "region_boost is 0.5", "from 1 to 1"),
    "region_boost NaN": ({"region_boost": NAN}, "region_boost is NaN", "from 1"),
    "isolate": ({"isolate": 1.5}, "isolate is 1.5", "from 0"),
    "blocks": ({"blocks": 3}, "blocks is 3", "from 1 to 2"),
    "overlap": ({"overlap": "mix"}, '"mix"', "blend, priority, union"),
    "spacing": ({"spacing": "cosine"}, '"cosine"', "default, karras"),
    "eta": ({"eta": 0.5, "sampler": "euler"}, "eta is 0.5", "leave eta out"),
    "strength alone": ({"strength": 0.5}, "there is no background", "give one"),
    "strength": ({"strength": 1.5, "background": "a.png"}, "strength is 1.5", "from 0"),
    "background": ({"background": []}, "background is []", "path of an image"),
    "model": ({"model": ""}, 'model is ""', "give text"),
    "caption null": ({"caption": None}, "caption is null", "give text"),
    "ten thousand regions": ({"regions": [{}] * 10_000}, "10000 regions", "at most 256"),
    "regions an object": ({"regions": {"box": BOX}}, "regions is", "give a list"),
}


def sentence_of(scene: dict[str, Any]) -> tuple[CloisonneError, str]:
    with pytest.raises(CloisonneError) as from_python:
        Scene(**scene)
    with pytest.raises(CloisonneError) as from_json:
        Scene.from_json(json.dumps(scene))
    assert str(from_json.value) == str(from_python.value)
    with pytest.raises(CloisonneError) as validated:
        Scene.model_validate(scene)
    assert str(validated.value) == str(from_python.value)
    text = str(from_json.value)
    assert "\n" not in text
    assert len(text) < 400
    assert text[-1] in ".?"
    return from_json.value, text


@pytest.mark.parametrize(("scene", "wrong", "do"), SHOES.values(), ids=SHOES)
def test_a_bad_region_is_named(scene, wrong, do) -> None:
    error, text = sentence_of(scene)
    assert text.startswith('Region "shoe": ')
    assert error.region == "shoe"
    assert wrong in text
    assert do in text


@pytest.mark.parametrize(("scene", "wrong", "do"), SHOES.values(), ids=SHOES)
def test_a_bad_region_without_a_name_is_named_by_its_position(scene, wrong, do) -> None:
    good = {"phrase": "a cat", "box": BOX}
    bad = {name: value for name, value in scene["regions"][0].items() if name != "name"}
    error, text = sentence_of({"regions": [good, bad]})
    assert text.startswith('Region "region-1": ')
    assert error.region == "region-1"
    assert wrong in text


@pytest.mark.parametrize(("scene", "wrong", "do"), SHOES.values(), ids=SHOES)
def test_a_bad_region_alone(scene, wrong, do) -> None:
    with pytest.raises(CloisonneError) as caught:
        Region(**scene["regions"][0])
    assert str(caught.value).startswith('Region "shoe": ')


@pytest.mark.parametrize(("scene", "wrong", "do"), SCENES.values(), ids=SCENES)
def test_a_bad_scene(scene, wrong, do) -> None:
    error, text = sentence_of(scene)
    assert error.region is None
    assert wrong in text
    assert do in text


@pytest.mark.parametrize("name", [" ", "", "a\nb", "n" * 101, 3])
def test_a_bad_name_is_quoted_and_not_used(name) -> None:
    error, text = sentence_of({"regions": [{"name": name, "box": BOX, "phrase": "a"}]})
    assert error.region == "region-0"
    assert text.startswith('Region "region-0": name is ')


@pytest.mark.parametrize("region", [3, None, "box", [1]])
def test_a_region_of_another_type(region) -> None:
    error, text = sentence_of({"regions": [region]})
    assert error.region == "region-0"
    assert "give an object" in text


def test_two_regions_of_one_name() -> None:
    error, text = sentence_of({"regions": shoe(box=BOX)["regions"] * 2})
    assert error.region == "shoe"
    assert "give each its own" in text


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "is not JSON"),
        ("{", "line 1, column 2"),
        ('{"steps": 1,\n "steps": 2}', 'The field "steps" is given twice'),
        ('{"regions": [{"box": [0,0,1,1], "box": [0,0,0.5,1], "phrase": "a"}]}', 'The field "box" is given twice'),
        ("[]", "give a JSON object"),
        ("3", "give a JSON object"),
        ("[" * 100_000, "not JSON that can be read"),
        ('{"seed": ' + "9" * 5000 + "}", "not JSON that can be read"),
        (b"\xff\xfe{", "neither a PNG nor text in UTF-8"),
    ],
)
def test_text_that_is_not_a_scene(text, wrong) -> None:
    with pytest.raises(SceneError) as caught:
        Scene.from_json(text)
    assert wrong in str(caught.value)
    assert len(str(caught.value)) < 300


def test_files_that_are_not_scenes(tmp_path) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(Image.new("L", (4, 4))))
    (tmp_path / "half.png").write_bytes(encoded(Image.new("L", (4, 4)))[:20])
    for name, wrong in [
        ("missing.json", "cannot be read"),
        ("photo.png", "carries no scene"),
        ("half.png", "cannot be read as a PNG"),
        ("", "cannot be read"),
    ]:
        with pytest.raises(SceneError, match=wrong):
            Scene.load(tmp_path / name)


@pytest.mark.parametrize(
    ("mask", "wrong"),
    [
        (Image.new("F", (2, 2)), "mode F cannot be stored"),
        (np.full((2, 2), 2.0), "values from 2 to 2; scale floats to 0 to 1"),
        (np.zeros((2, 2, 3)), "is not supported"),
    ],
)
def test_bad_masks_from_python(mask, wrong) -> None:
    with pytest.raises(ImageError, match=wrong) as caught:
        Scene(regions=[{"name": "sky", "phrase": "stars", "mask": mask}])
    assert caught.value.region == "sky"


def test_a_black_mask() -> None:
    region = Region(name="sky", phrase="stars", mask=np.zeros((4, 4)))
    with pytest.raises(SceneError, match=r'Region "sky": The mask .* has no white pixel'):
        region.soft_mask(8, 8)
    with pytest.raises(SceneError, match=r'Region "sky": .* paint the region white'):
        region.bounding_box()
