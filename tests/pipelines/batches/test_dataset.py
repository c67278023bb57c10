"""Annotations of a batch: what was asked for is the label, and the labels make the same scenes again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import simulate
from PIL import Image

from cloisonne.errors import OutputError
from cloisonne.pipelines.batches.dataset import write_dataset
from cloisonne.pipelines.batches.manifest import NAME
from cloisonne.scene import Region, Scene, from_coco

SIZE = {"width": 64, "height": 128}
CIRCLE = Region(name="ball", ellipse=(0.25, 0.25, 0.75, 0.5), phrase="a (red:1.3) ball", feather=0.2)
SCENES = {
    "a": Scene(**SIZE, caption="in a park", regions=[CIRCLE, Region(box=(0, 0.5, 1, 1), phrase="grass")]),
    "b": Scene(**SIZE, caption="", seed=9, regions=[CIRCLE.replace(name="x")]),
    "c": Scene(**SIZE, caption="nothing"),
    "d": Scene(**SIZE, regions=[CIRCLE.replace(weight=0.0), Region(box=(0, 0, 0.5, 0.5), phrase="a bracket \\(")]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "out"
    report = simulate(SCENES, folder, dataset=True, num_images=2, workers=2)
    assert report.annotations == folder / "annotations.json"
    return folder


def annotations(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "annotations.json").read_text())


def test_images_are_listed_with_their_captions(folder: Path) -> None:
    images = annotations(folder)["images"]
    assert [image["file_name"] for image in images] == sorted(path.name for path in folder.glob("*.png"))
    assert [image["id"] for image in images] == list(range(1, 9))
    assert {image["file_name"]: image["caption"] for image in images}["a-0001.png"] == "in a park"
    for image in images:
        with Image.open(folder / image["file_name"]) as opened:
            assert opened.size == (image["width"], image["height"])
    seeds = {image["file_name"]: image["seed"] for image in images}
    assert (seeds["b.png"], seeds["b-0001.png"]) == (9, 10)


def test_ids_and_categories_are_those_of_coco(folder: Path) -> None:
    data = annotations(folder)
    assert [one["id"] for one in data["annotations"]] == list(range(1, len(data["annotations"]) + 1))
    names = {category["id"]: category["name"] for category in data["categories"]}
    assert len(names) == len(set(names.values()))
    assert all(names[one["category_id"]] == one["caption"] for one in data["annotations"])
    assert {one["image_id"] for one in data["annotations"]} <= {image["id"] for image in data["images"]}


@pytest.mark.parametrize("name", ["a", "b", "d"])
def test_annotations_make_the_regions_again(name: str, folder: Path) -> None:
    data = annotations(folder)
    image = next(image["id"] for image in data["images"] if image["file_name"] == f"{name}.png")
    made, warnings = from_coco(data, image, strict=True)
    asked = Scene.from_png(folder / f"{name}.png").active_regions
    assert warnings == ()
    assert made.caption == SCENES[name].caption
    assert len(made.regions) == len(asked)
    for region, own in zip(made.regions, asked, strict=True):
        wanted = own.soft_mask(SIZE["height"], SIZE["width"]) >= 0.5
        assert np.array_equal(region.soft_mask(SIZE["height"], SIZE["width"]) >= 0.5, wanted)


def test_boxes_and_areas_are_those_of_the_masks(folder: Path) -> None:
    for one in annotations(folder)["annotations"]:
        rle = Region(rle=one["segmentation"], phrase="x").soft_mask(SIZE["height"], SIZE["width"]) > 0
        x, y, width, height = one["bbox"]
        assert rle.sum() == one["area"] == rle[y : y + height, x : x + width].sum()
        assert rle[y].any()
        assert rle[:, x].any()
        assert rle[y + height - 1].any()
        assert rle[:, x + width - 1].any()


def test_weights_are_no_part_of_a_label(folder: Path) -> None:
    assert {category["name"] for category in annotations(folder)["categories"]} == {
        "a red ball",
        "grass",
        "a bracket (",
    }


def test_regions_that_were_dropped_are_no_labels(folder: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (folder / NAME).read_text().splitlines()]
    for path in folder.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    dropped = [line | {"dropped": ["ball"]} if line["file"] == "a.png" else line for line in lines]
    (tmp_path / NAME).write_text("".join(json.dumps(line) + "\n" for line in dropped))
    write_dataset(tmp_path)
    before, after = annotations(folder), annotations(tmp_path)
    assert before["images"] == after["images"]
    assert len(before["annotations"]) - len(after["annotations"]) == 1
    assert [one["caption"] for one in after["annotations"] if one["image_id"] == 2] == ["grass"]


def test_the_file_does_not_depend_on_the_order_of_the_run(folder: Path, tmp_path: Path) -> None:
    simulate(dict(reversed(SCENES.items())), tmp_path / "out", num_images=2)
    simulate(SCENES, tmp_path / "out", num_images=2, dataset=True)
    assert (tmp_path / "out" / "annotations.json").read_bytes() == (folder / "annotations.json").read_bytes()


def test_an_earlier_file_stays_where_the_new_one_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "annotations.json").read_bytes()

    def full(*given: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dumps", full)
    with pytest.raises(OutputError, match="No space left"):
        write_dataset(folder)
    assert (folder / "annotations.json").read_bytes() == before
    assert not list(folder.glob(".*.tmp"))
