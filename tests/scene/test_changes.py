from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloisonne.errors import CloisonneError, SceneError
from cloisonne.scene import ImageRef, Region, Scene
from cloisonne.scene.changes import Changes, with_changes
from cloisonne.scene.fields import read_change
from cloisonne.scene.io.image_ref import given_outside
from cloisonne.scene.outside import Outside

GREY = np.full((8, 8, 3), 90, np.uint8)
HAT = Region(name="hat", box=(0.0, 0.0, 0.5, 0.5), phrase="a red hat")
DOTTED = Region(name="hat.2", box=(0.5, 0.5, 1.0, 1.0), exemplar={"image": GREY, "strength": 0.5})
EDGES = Region(name="edges", ellipse=(0.5, 0.0, 1.0, 0.5), control={"kind": "canny", "from": GREY, "strength": 0.7})
SCENE = Scene(caption="on the beach", seed=3, width=64, height=64, regions=(HAT, DOTTED, EDGES))
PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
OTHER = ImageRef(path=Path("other.png"))


def one(name: str, scene: Scene = SCENE) -> Region:
    return next(region for region in scene.regions if region.name == name)


@pytest.mark.parametrize(
    ("text", "name", "changes"),
    [
        ("hat=a green hat", "hat", {"phrase": "a green hat"}),
        ("hat = 7", "hat", {"phrase": "7"}),
        ('hat.phrase="a hat"', "hat", {"phrase": "a hat"}),
        ("hat.phrase=a=b", "hat", {"phrase": "a=b"}),
        ("hat.weight=0", "hat", {"weight": 0}),
        ("hat.guidance=null", "hat", {"guidance": None}),
        ("hat.box=[0, 0, 1, 1]", "hat", {"box": (0, 0, 1, 1)}),
        ("hat.2.exemplar=other.png", "hat.2", {"exemplar": {"image": OTHER, "strength": 0.5}}),
        ("hat.2.exemplar.strength=1", "hat.2", {"exemplar": {"image": GREY}}),
        ("edges.control=other.png", "edges", {"control": {"kind": "canny", "from": OTHER, "strength": 0.7}}),
        ("edges.control.from=other.png", "edges", {"control": {"kind": "canny", "from": OTHER, "strength": 0.7}}),
        ("edges.control.kind=sobel", "edges", {"control": {"kind": "sobel", "from": GREY, "strength": 0.7}}),
    ],
)
def test_a_region_s_field_is_changed_and_nothing_else(text: str, name: str, changes: dict[str, Any]) -> None:
    changed = with_changes(SCENE, dict([read_change(SCENE, text)]))
    expected = [region.replace(**changes) if region.name == name else region for region in SCENE.regions]
    assert changed == SCENE.replace(regions=expected)
    assert Changes.between(SCENE, changed).fields == ()


def test_fields_of_the_scene_and_several_at_once() -> None:
    given = dict(read_change(SCENE, text) for text in ("caption=7", "steps=9", "hat.box=null", "hat.ellipse=[0,0,1,1]"))
    changed = with_changes(SCENE, given)
    assert (changed.caption, changed.steps) == ("7", 9)
    assert one("hat", changed) == HAT.replace(box=None, ellipse=(0, 0, 1, 1))
    found = Changes.between(SCENE, changed)
    assert (set(found.fields), found.regions) == ({"caption", "steps"}, ("hat",))
    assert not Changes.between(SCENE, with_changes(SCENE, {"hat": "a red hat"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hat", "give a field and its value, as in hat="),
        ("hut=a cap", 'no region or field of the scene "hut" to change; did you mean "hat"?.*"hat", "hat.2", "edges"'),
        ("hut.weight=1", 'no region "hut" to change; did you mean "hat"?.*are: "hat", "hat.2", "edges"'),
        ("captoin=a", 'did you mean "caption"?'),
        ("regions=[]", "no region or field of the scene"),
        ("hat.weigth=1", 'Region "hat": There is no field "weigth" to change; did you mean "weight"?'),
        ("hat.zzz=1", "the fields of a region are name, box, ellipse"),
        ("hat.weight=heavy", 'Region "hat": weight is "heavy"; give a number'),
        ("hat.control.strength=1", 'Region "hat": control.strength cannot be set, because there is no control'),
        ("hat.box.0=1", 'Region "hat": There is no field "box.0" to change; box has no fields'),
        ("hat.2.exemplar.size=1", 'Region "hat.2": There is no field "size"'),
        ("hat=", 'Region "hat": The region has no phrase'),
        ("steps=many", 'steps is "many"; give a whole number'),
    ],
)
def test_an_invalid_change_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(CloisonneError, match=message.replace("?", r"\?")):
        with_changes(SCENE, dict([read_change(SCENE, text)]))


def test_outside_covers_neither_the_old_nor_the_new_shape_of_a_region() -> None:
    changed = with_changes(SCENE, {"hat": "a cap"}, outside=PICTURE)
    assert changed.outside == Outside(image=given_outside(PICTURE), regions=("hat",))
    moved = with_changes(SCENE, {"hat.box": [0.25, 0.25, 0.75, 0.75]}, outside=PICTURE)
    assert moved.outside is not None
    was, now = HAT.soft_mask(64, 64), one("hat", moved).soft_mask(64, 64)
    assert np.array_equal(moved.outside.covered(moved.regions, 64, 64), np.maximum(was, now))
    assert Scene.from_json(moved.to_json()) == moved


def test_an_earlier_outside_does_not_cover_a_later_change() -> None:
    changed = with_changes(SCENE, {"hat": "a cap"}, outside=PICTURE)
    later = with_changes(changed, {"edges.ellipse": None, "edges.box": [0.5, 0.0, 0.75, 0.25]})
    assert later.outside is not None
    assert later.outside.regions == ("hat", "edges")
    was = EDGES.soft_mask(64, 64)
    assert (later.outside.covered(later.regions, 64, 64)[was > 0] == 1).all()
    assert with_changes(changed, {"seed": 4}).outside == changed.outside
    assert with_changes(changed, {"outside": None}).outside is None
    again = with_changes(changed, {"edges.weight": 2}, outside=PICTURE)
    assert again.outside is not None
    assert again.outside.regions == ("edges",)


@pytest.mark.parametrize(
    ("to", "message"), [({}, "nothing was changed"), ({"seed": 9}, "only seed of the whole scene was changed")]
)
def test_preserving_pixels_needs_a_changed_region(to: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        with_changes(SCENE, to, outside=PICTURE)


@pytest.mark.parametrize(
    ("outside", "message"),
    [
        ("old.png", 'outside is "old.png"; give an object'),
        ({"image": "old.png"}, "neither regions nor a mask"),
        ({"image": "old.png", "regions": ["cap"]}, 'the region "cap", but the scene\'s regions are: "hat", "hat.2"'),
        ({"image": "http://old.png", "regions": ["hat"]}, "outside is .*URLs are not fetched"),
        ({"image": "old.png", "regions": "hat"}, 'regions is "hat"; give a list'),
        ({"picture": "old.png", "regions": ["hat"]}, 'no field "picture"'),
    ],
)
def test_an_invalid_outside_is_refused(outside: Any, message: str) -> None:
    with pytest.raises(CloisonneError, match=message):
        SCENE.replace(outside=outside)


def test_paths_follow_the_scene_s_folder(workdir: Path) -> None:
    Image.fromarray(PICTURE).save("old.png")
    changed = SCENE.replace(outside={"image": "old.png", "regions": ["hat"]})
    (workdir / "sub").mkdir()
    (workdir / "sub" / "scene.json").write_text(changed.to_json(base=Path("sub")))
    loaded = Scene.load("sub/scene.json")
    assert loaded.outside is not None
    assert loaded.outside.image.path == Path("sub/../old.png")
