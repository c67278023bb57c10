"""Scenes as COCO annotations: what pycocotools expects of them, and that they come back."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloisonne.errors import OutputError, SceneError
from cloisonne.scene import Region, Scene, export_scene, from_coco, to_coco
from cloisonne.scene.shapes.rle import Rle

SIZE = (96, 64)
SHAPES = {
    "box": (0.125, 0.25, 0.5, 0.75),
    "ellipse": (0.125, 0.25, 0.5, 0.75),
    "polygon": ((0.0, 0.0), (1.0, 0.25), (0.5, 1.0)),
    "rle": Rle.of(np.tri(64, 96, dtype=bool)),
    "mask": np.tri(64, 96, dtype=bool),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_come_back(shape: str) -> None:
    region = Region(name="region-0", phrase=r"a \(big\) cat", **{shape: SHAPES[shape]})
    data, warnings = to_coco(Scene(caption="a room", regions=[region]), SIZE)
    assert warnings == ()
    (back,) = from_coco(json.loads(json.dumps(data)))[0].regions
    assert back.phrase == region.phrase
    np.testing.assert_array_equal(back.soft_mask(64, 96), region.soft_mask(64, 96))
    if shape in ("box", "polygon"):
        assert back == region
    (annotation,) = data["annotations"]
    pixels = region.soft_mask(64, 96) > 0
    columns, rows = np.flatnonzero(pixels.any(axis=0)), np.flatnonzero(pixels.any(axis=1))
    x, y, width, height = annotation["bbox"]
    extent = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose([x, y, x + width, y + height], extent, atol=1.5)
    assert annotation["area"] == pytest.approx(pixels.sum(), rel=0.03)
    if isinstance(annotation["segmentation"], dict):
        assert annotation["segmentation"]["size"] == [64, 96]


FRACTIONS = st.integers(0, 1000).map(lambda one: one / 1000)
BOXES = st.tuples(FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS).filter(lambda one: one[0] < one[2] and one[1] < one[3])


@settings(max_examples=25)
@given(st.lists(st.tuples(BOXES, st.text("abc (){}[]:|", min_size=1).filter(str.strip)), max_size=4))
def test_boxes_and_texts_come_back(given: list[tuple[tuple[float, ...], str]]) -> None:
    """Of an image of 1000 x 1000, to whose pixels these boxes are exact."""
    regions = [{"bbox": [0, 0, 1, 1], "desc": text} for _, text in given]
    texts = [one["desc"].strip() for one in regions]
    annotations = [
        {"image_id": 1, "bbox": [1000 * x0, 1000 * y0, 1000 * (x1 - x0), 1000 * (y1 - y0)], "caption": text}
        for ((x0, y0, x1, y1), _), text in zip(given, texts, strict=True)
    ]
    image = {"id": 1, "width": 1000, "height": 1000}
    scene, _ = from_coco({"images": [image], "annotations": annotations})
    data, warnings = to_coco(scene, (1000, 1000))
    assert warnings == ()
    assert [one["caption"] for one in data["annotations"]] == texts
    for one, (box, _) in zip(from_coco(data)[0].regions, given, strict=True):
        assert one.box == pytest.approx(box, abs=1e-6)


def test_phrases_are_categories_and_losses_are_named() -> None:
    soft = np.linspace(0, 1, 96, dtype=np.float32)[None].repeat(64, 0)
    regions = [
        Region(name="a", box=(0, 0, 1, 1), phrase="a cat"),
        Region(name="b", box=(0, 0, 0.5, 1), phrase="(a cat:1.5)", negative="dog", feather=0.1),
        Region(name="c", mask=soft, phrase="fog"),
        Region(name="d", box=(0, 0, 1, 1), phrase="a dog", weight=0),
        Region(name="e", box=(0, 0, 1, 1), edit={"kind": "remove", "phrase": "a dog"}),
    ]
    data, warnings = to_coco(Scene(caption="a room", seed=1, overlap="union", regions=regions), SIZE)
    assert [one["name"] for one in data["categories"]] == ["a cat", "fog"]
    assert [one["category_id"] for one in data["annotations"]] == [1, 1, 2]
    assert warnings == (
        'Region "b": COCO annotations have no negative, feather.',
        'Region "c": its soft mask became hard at 0.5.',
        'Region "d" has weight 0 and was left out.',
        'Region "e" has no phrase and was left out.',
        "COCO annotations have no seed, overlap of the scene.",
    )


def test_files(tmp_path: Path) -> None:
    scene = Scene(regions=[Region(box=(0, 0, 0.5, 0.5), phrase="a cat")])
    paths, warnings = export_scene(scene, tmp_path / "a.json", "coco")
    assert paths == [tmp_path / "a.json"]
    assert warnings == ("The scene has no size; pixels are those of 512 x 512.",)
    assert json.loads(paths[0].read_text()) == to_coco(scene, (512, 512))[0]
    with pytest.raises(OutputError, match="exists"):
        export_scene(scene, tmp_path / "a.json", "elements")
    with pytest.raises(SceneError, match="coco, elements, masks"):
        export_scene(scene, tmp_path / "b.json", "svg")  # type: ignore[arg-type]
    wide = scene.replace(background=np.zeros((20, 40, 3), np.uint8))
    data = json.loads(export_scene(wide, tmp_path / "c.json", "coco")[0][0].read_text())
    assert (data["images"][0]["width"], data["images"][0]["height"]) == (40, 20)
