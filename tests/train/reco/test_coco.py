"""Folders of images with COCO annotations: accepted and refused input."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloisonne.errors import CloisonneError, ImageError, TrainingError
from cloisonne.train.datasets.coco import CocoDataset
from cloisonne.world.export import export

Make = Callable[..., Path]
RNG = np.random.default_rng(0)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A folder of one image of 40 x 20 pixels with the given annotations."""

    def made(name: str = "annotations.json", **changes: Any) -> Path:
        coco: dict[str, Any] = {
            "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 20, "caption": "a beach"}],
            "annotations": [{"image_id": 1, "bbox": [10, 5, 20, 10], "caption": "a cat"}],
        }
        Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "a.png")
        (tmp_path / name).write_text(json.dumps(coco | changes))
        return tmp_path

    return made


def image(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": 1, "file_name": "a.png", "width": 40, "height": 20} | changes]


def region(**changes: Any) -> list[dict[str, Any]]:
    return [{"image_id": 1, "bbox": [10, 5, 20, 10], "caption": "a cat"} | changes]


def test_boxes_are_fractions(make: Make) -> None:
    dataset = CocoDataset(make())
    assert len(dataset) == 1
    example = dataset.load(0, RNG)
    assert example.rgb.shape == (20, 40, 3)
    assert example.caption == "a beach"
    assert example.regions == (((0.25, 0.25, 0.75, 0.75), "a cat"),)


def test_a_region_without_caption_is_its_category(make: Make) -> None:
    folder = make(
        annotations=[
            *region(caption=None, category_id=3),
            *region(category_id=3),
            *region(iscrowd=1),
            *region(caption=""),
        ],
        categories=[{"id": 3, "name": "dog"}],
    )
    assert [words for _, words in CocoDataset(folder).load(0, RNG).regions] == ["dog", "a cat"]


def test_captions_of_all_kinds(make: Make) -> None:
    folder = make(images=image(caption=["one", "two"]), annotations=[*region(), {"image_id": 1, "caption": "three"}])
    dataset = CocoDataset(folder)
    captions = {dataset.load(0, np.random.default_rng(seed)).caption for seed in range(40)}
    assert captions == {"one", "two", "three"}


def test_files_of_one_folder_are_read_together(make: Make) -> None:
    make("captions.json", images=image(), annotations=[{"image_id": 1, "caption": "another caption"}])
    folder = make("instances.json", images=image())
    example = CocoDataset(folder).load(0, RNG)
    assert (example.caption, len(example.regions)) == ("another caption", 1)
    make("annotations.json")
    assert CocoDataset(folder).load(0, RNG).caption == "a beach"


def test_two_visits_are_equal(pictures: Path) -> None:
    """The published data set class removes the boxes of an image when it loads it."""
    dataset = CocoDataset(pictures)
    first = [copy.deepcopy(dataset.load(k, np.random.default_rng(k))) for k in range(len(dataset))]
    for k, before in enumerate(first):
        again = dataset.load(k, np.random.default_rng(k))
        assert again.regions == before.regions
        assert len(again.regions) == 2
        assert again.caption == before.caption
        assert np.array_equal(again.rgb, before.rgb)


def test_an_image_without_text_is_skipped(make: Make) -> None:
    more = [*image(caption="a beach"), {"id": 2, "file_name": "nowhere.png", "width": 1, "height": 1}]
    assert len(CocoDataset(make(images=more))) == 1


def test_folders_of_the_draw_command(tmp_path: Path) -> None:
    export(range(3), tmp_path / "world", width=64, height=64)
    dataset = CocoDataset(tmp_path / "world")
    assert len(dataset) == 3
    for k in range(3):
        example = dataset.load(k, RNG)
        scene = json.loads((tmp_path / "world" / f"{k:06d}.json").read_text())
        assert example.caption == scene["caption"]
        assert [words for _, words in example.regions] == [region["phrase"] for region in scene["regions"]]
        for (box, _), expected in zip(example.regions, scene["regions"], strict=True):
            assert box == pytest.approx(expected["box"], abs=1e-6)


def test_exif_orientation_is_applied(make: Make) -> None:
    folder = make(images=image(width=20, height=40, file_name="a.jpg"), annotations=region(bbox=[0, 0, 10, 10]))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(folder / "a.jpg", exif=exif)
    assert CocoDataset(folder).load(0, RNG).rgb.shape == (40, 20, 3)


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"images": image(file_name="../a.png")}, "outside"),
        ({"images": image(file_name="/etc/a.png")}, "outside"),
        ({"images": image(file_name="..\\a.png")}, "outside"),
        ({"images": image(file_name="b.png")}, "no file"),
        ({"images": image(file_name=None)}, "file_name"),
        ({"images": image(id=None)}, "id in images"),
        ({"images": image(width="wide")}, "size"),
        ({"images": image(width=None, height=None)}, "width, height"),
        ({"images": "none"}, '"images"'),
        ({"annotations": [1]}, "annotations"),
        ({"annotations": region(image_id=9)}, "image 9"),
        ({"annotations": region(image_id=[9])}, "not listed"),
        ({"annotations": region(bbox=[1, 2, 3])}, "bbox"),
        ({"annotations": region(bbox=[1, 2, float("nan"), 3])}, "bbox"),
        ({"annotations": region(bbox=7)}, "bbox"),
        ({"annotations": region(caption=5)}, "give a text"),
        ({"annotations": region(caption="a <bin001> cat")}, "<bin001>"),
        ({"annotations": region(caption="a cat <|endoftext|>")}, "endoftext"),
        ({"annotations": region(bbox=[10, 5, 0, 10])}, "nothing lies inside"),
        ({"annotations": region(bbox=[50, 5, 20, 10])}, "nothing lies inside"),
        ({"annotations": region(caption=None)}, "neither a caption nor a category"),
        ({"images": image(), "annotations": []}, "No image"),
    ],
)
def test_what_is_wrong_is_one_sentence(make: Make, changes: dict[str, Any], about: str) -> None:
    folder = make(**changes)
    with pytest.raises(TrainingError, match=about) as raised:
        CocoDataset(folder, strict=True)
    assert "\n" not in str(raised.value)


UNUSABLE = [
    region(bbox=[10, 5, 0, 10]),
    region(bbox=[10, 5, 20, 0]),
    region(bbox=[50, 5, 20, 10]),
    region(bbox=[10, 5, -20, 10]),
    region(bbox=[1, 2, 3]),
    region(bbox=[1, 2, float("nan"), 3]),
    region(image_id=9),
    region(image_id=None),
    region(caption=5),
    region(caption="a <bin001> cat"),
    region(caption=None),
]


@pytest.mark.parametrize("wrong", UNUSABLE)
def test_an_annotation_that_cannot_be_used_is_counted(make: Make, wrong: list[dict[str, Any]]) -> None:
    dataset = CocoDataset(make(annotations=[*region(), *wrong, *wrong, *region(bbox=[0, 0, 40, 20], caption="a dog")]))
    assert [words for _, words in dataset.load(0, RNG).regions] == ["a cat", "a dog"]
    (warning,) = dataset.warnings
    assert warning.startswith("2 of 4 annotations in ")
    with pytest.raises(TrainingError):
        CocoDataset(make(annotations=[*region(), *wrong]), strict=True)


def test_where_none_can_be_used_the_refusal_gives_the_reason(make: Make) -> None:
    with pytest.raises(TrainingError, match=r"No image .* 1 of 1 annotations .* nothing lies inside"):
        CocoDataset(make(images=image(), annotations=region(bbox=[10, 5, 0, 10])))


@pytest.mark.parametrize(("own", "named"), [(7, "7"), ("7", 7), ("7", 7.0), (7, 7.0), (7, " 7 ")])
def test_ids_may_be_texts_or_numbers(make: Make, own: Any, named: Any) -> None:
    folder = make(
        images=image(id=own, caption="a beach"),
        categories=[{"id": own, "name": "dog"}],
        annotations=region(image_id=named, caption=None, category_id=named),
    )
    dataset = CocoDataset(folder, strict=True)
    assert [words for _, words in dataset.load(0, RNG).regions] == ["dog"]
    assert dataset.warnings == ()


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no folder"):
        CocoDataset(tmp_path / "nowhere")
    with pytest.raises(TrainingError, match="no JSON file"):
        CocoDataset(tmp_path)
    (tmp_path / "annotations.json").write_text("{")
    with pytest.raises(TrainingError, match="cannot be read as JSON"):
        CocoDataset(tmp_path)


@pytest.mark.parametrize(("size", "error"), [(None, ImageError), ((20, 40), TrainingError)])
def test_unreadable_or_wrongly_sized_images_are_refused(make: Make, size: Any, error: type[CloisonneError]) -> None:
    folder = make()
    if size is None:
        (folder / "a.png").write_bytes(b"no picture")
    else:
        Image.new("RGB", size).save(folder / "a.png")
    dataset = CocoDataset(folder)
    with pytest.raises(error, match=r"a\.png"):
        dataset.load(0, RNG)
