import numpy as np
import pytest

from cloisonne.errors import SceneError
from cloisonne.scene import Region, Scene, from_coco, from_gligen
from cloisonne.scene.shapes.rle import Rle

RLE = {"size": [100, 200], "counts": [0, 100, 19900]}


def coco(*annotations: dict) -> dict:
    return {
        "images": [{"id": 7, "width": 200, "height": 100}, {"id": 8, "width": 10, "height": 10}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{"image_id": 7, "category_id": 1} | annotation for annotation in annotations],
    }


def test_gligen() -> None:
    scene, warnings = from_gligen(["a cat", "a dog"], [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], caption="a room")
    assert scene == Scene(
        caption="a room",
        regions=[
            Region(name="region-0", box=(0, 0, 0.5, 0.5), phrase="a cat"),
            Region(name="region-1", box=(0.5, 0.5, 1, 1), phrase="a dog"),
        ],
    )
    assert warnings == ()


def test_gligen_clips_and_reports() -> None:
    scene, warnings = from_gligen(["a cat"], [[-0.25, 0, 0.5, 1.5]])
    assert scene.regions[0].box == (0, 0, 0.5, 1)
    assert warnings == (
        'Region "region-0": its box [-0.25, 0.0, 0.5, 1.5] reaches outside the image '
        "and was clipped to [0.0, 0.0, 0.5, 1.0].",
    )


@pytest.mark.parametrize(
    ("phrases", "boxes", "wrong"),
    [
        (["a"], [], "1 gligen_phrases and 0 gligen_boxes"),
        (["a"], [[2, 2, 3, 3]], 'Region "region-0": The box [2.0, 2.0, 3.0, 3.0] lies outside'),
        (["a"], [[0.5, 0, 0.2, 1]], 'Region "region-0": box is [0.5, 0.0, 0.2, 1.0], which is inverted'),
        (["a"], [[0, 0, 1]], 'Region "region-0": box is [0, 0, 1]; give 4 numbers'),
        (["a"], [[0, 0, 1, float("nan")]], "give 4 numbers"),
        ([""], [[0, 0, 1, 1]], 'Region "region-0": The region has no phrase'),
    ],
)
def test_gligen_refuses(phrases, boxes, wrong) -> None:
    with pytest.raises(SceneError) as caught:
        from_gligen(phrases, boxes)
    assert wrong in str(caught.value)


def test_coco_boxes_are_pixels_from_the_top_left() -> None:
    data = coco({"bbox": [20, 10, 100, 50]}, {"bbox": [0, 0, 10, 10], "category_id": 2, "caption": "a small dog"})
    scene, warnings = from_coco(data, image_id=7)
    assert [region.box for region in scene.regions] == [(0.1, 0.1, 0.6, 0.6), (0, 0, 0.05, 0.1)]
    assert [region.phrase for region in scene.regions] == ["cat", "a small dog"]
    assert warnings == ()
    assert (scene.width, scene.height) == (None, None)


def test_coco_polygons() -> None:
    (region,) = from_coco(coco({"bbox": [1, 1, 2, 2], "segmentation": [[0, 0, 100, 0, 0, 50]]}), 7)[0].regions
    assert region.polygon == ((0, 0), (0.5, 0), (0, 0.5))


def test_coco_parts_become_one_mask() -> None:
    squares = [[0, 0, 50, 0, 50, 50, 0, 50], [150, 50, 200, 50, 200, 100, 150, 100]]
    (region,) = from_coco(coco({"segmentation": squares}), 7)[0].regions
    mask = region.soft_mask(100, 200)
    expected = np.zeros((100, 200))
    expected[:50, :50] = expected[50:, 150:] = 1
    assert (mask == expected).all()


@pytest.mark.parametrize("counts", [[0, 100, 19900], "0T3l]c0"])
def test_coco_runs(counts) -> None:
    (region,) = from_coco(coco({"segmentation": RLE | {"counts": counts}, "iscrowd": 1}), 7)[0].regions
    assert region.rle == Rle(**RLE)


def test_coco_clips_and_reports() -> None:
    scene, warnings = from_coco(
        coco(
            {"bbox": [190, 10, 20, 50]},
            {"segmentation": [[0, 0, 300, 0, 0, 50]]},
            {"bbox": [0, 0, 200.00001, 100]},
            {"segmentation": [[0, 0, 200.00001, 0, 0, 50]]},
        ),
        7,
    )
    assert scene.regions[0].box == (0.95, 0.1, 1, 0.6)
    assert scene.regions[1].polygon == ((0, 0), (1, 0), (0, 0.5))
    assert [warning.split(":")[0] for warning in warnings] == ['Region "region-0"', 'Region "region-1"']


def test_coco_captions() -> None:
    scene, _ = from_coco(coco({"caption": "two animals"}, {"bbox": [0, 0, 10, 10]}), 7)
    assert scene.caption == "two animals"
    assert [region.name for region in scene.regions] == ["region-0"]


def test_coco_of_one_image_needs_no_id() -> None:
    data = coco({"bbox": [0, 0, 10, 10]})
    assert from_coco(data | {"images": data["images"][:1]})[0].regions[0].box == (0, 0, 0.05, 0.1)


@pytest.mark.parametrize(
    ("data", "image_id", "wrong"),
    [
        (coco(), None, "image_id is missing, but the COCO annotations have 2 images (7, 8)"),
        (coco(), 9, "image_id is 9, but"),
        ({}, None, "0 images"),
        ([], None, 'no list of objects "images"'),
        (coco() | {"annotations": {}}, 7, 'no list of objects "annotations"'),
        ({"images": [{"id": 1}]}, 1, "has the size [null, null]"),
        (coco({"bbox": [300, 10, 20, 50]}), 7, 'Region "region-0": The box [1.5, 0.1, 1.6, 0.6] lies outside'),
        (
            coco({"bbox": [30, 10, 0, 50]}),
            7,
            'Region "region-0": box is [0.15, 0.1, 0.15, 0.6], which is inverted or empty',
        ),
        (coco({"bbox": ["a", 0, 1, 1]}), 7, 'Region "region-0": bbox is ["a", 0, 1, 1]; give 4 numbers'),
        (coco({"segmentation": [[1, 2, 3]]}), 7, "segmentation is [1, 2, 3]; give 6 numbers"),
        (coco({"segmentation": 3}), 7, "segmentation is 3; give polygons or an RLE"),
        (
            coco({"segmentation": {"size": [1, 1], "counts": [2]}}),
            7,
            'Region "region-0": rle has runs that add up to 2',
        ),
        (coco({"bbox": [0, 0, 1, 1], "category_id": 9}), 7, 'Region "region-0": The region has no phrase'),
    ],
)
def test_coco_refuses(data, image_id, wrong) -> None:
    with pytest.raises(SceneError) as caught:
        from_coco(data, image_id, strict=True)
    assert wrong in str(caught.value)


UNUSABLE = [
    {"bbox": [30, 10, 0, 50]},
    {"bbox": [30, 10, 50, 0]},
    {"bbox": [300, 10, 20, 50]},
    {"bbox": ["a", 0, 1, 1]},
    {"segmentation": [[1, 2, 3]]},
    {"segmentation": [[0, 0, 50, 50, 100, 100]]},
    {"segmentation": [[0, 0, 50, 50, 100, 100], [0, 0, 50, 50, 100, 100]]},
    {"segmentation": {"size": [100, 200], "counts": [20000]}},
    {"segmentation": {"size": [1, 1], "counts": [2]}},
    {"bbox": [0, 0, 10, 10], "category_id": 9},
]


@pytest.mark.parametrize("wrong", UNUSABLE)
def test_invalid_annotations_are_skipped_and_counted(wrong) -> None:
    good = [{"bbox": [20, 10, 100, 50]}, {"bbox": [0, 0, 10, 10], "category_id": 2}]
    scene, warnings = from_coco(coco(good[0], wrong, good[1], wrong), 7)
    assert [(region.name, region.phrase) for region in scene.regions] == [("region-0", "cat"), ("region-1", "dog")]
    (warning,) = warnings
    assert warning.startswith("2 of 4 annotations of image 7 were skipped; the first: ")
    assert warning.endswith(".")
    assert "Region" not in warning
    with pytest.raises(SceneError):
        from_coco(coco(good[0], wrong), 7, strict=True)
    with pytest.raises(SceneError, match="None of the 1 annotations of image 7"):
        from_coco(coco(wrong), 7)


@pytest.mark.parametrize("own", [7, "7"])
@pytest.mark.parametrize("named", [7, "7", 7.0])
@pytest.mark.parametrize("asked", [7, "7", None])
def test_coco_ids_may_be_texts_or_numbers(own, named, asked) -> None:
    data = {
        "images": [{"id": own, "width": 200, "height": 100}],
        "categories": [{"id": own, "name": "cat"}],
        "annotations": [{"image_id": named, "category_id": named, "bbox": [20, 10, 100, 50]}],
    }
    scene, warnings = from_coco(data, asked, strict=True)
    assert [region.phrase for region in scene.regions] == ["cat"]
    assert warnings == ()


def test_an_image_without_annotations_gives_a_warning() -> None:
    scene, (warning,) = from_coco(coco({"bbox": [0, 0, 10, 10]}), 8)
    assert scene == Scene()
    assert "No annotation of image 8 is a region" in warning
