"""Exported images: everything read back equals what was rendered."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloisonne.errors import OutputError, SceneError
from cloisonne.scene import Scene, from_coco
from cloisonne.world.draw import draw
from cloisonne.world.export import export, scene_of
from cloisonne.world.picture import Recipe, sample

SEEDS = (3, 8, 1_000_001)
BUSY = Recipe(counts=(3,), overlapping=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "new"
    assert export(SEEDS, folder, recipe=BUSY) == [folder / f"{seed:06d}.json" for seed in SEEDS]
    return folder


def test_files(folder: Path) -> None:
    pictures = [f"{seed:06d}{part}.png" for seed in SEEDS for part in ("", "-region-0", "-region-1", "-region-2")]
    scenes = [f"{seed:06d}.json" for seed in SEEDS]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*pictures, *scenes, "annotations.json"])


@pytest.mark.parametrize("seed", SEEDS)
def test_pictures_and_masks_are_what_is_drawn(folder: Path, seed: int) -> None:
    drawn = draw(sample(seed, BUSY))
    np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{seed:06d}.png")), drawn.rgb)
    for k, mask in enumerate(drawn.masks):
        picture = Image.open(folder / f"{seed:06d}-region-{k}.png")
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.asarray(picture), mask * 255)


@pytest.mark.parametrize("seed", SEEDS)
def test_scenes_load(folder: Path, seed: int) -> None:
    drawn = draw(sample(seed, BUSY))
    scene = Scene.load(folder / f"{seed:06d}.json")
    assert scene == scene_of(drawn)
    assert [region.box for region in scene.regions] == drawn.boxes()
    assert set(json.loads((folder / f"{seed:06d}.json").read_text())) == {
        "version",
        "width",
        "height",
        "caption",
        "regions",
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_annotations_import_as_scenes(folder: Path, seed: int) -> None:
    drawn = draw(sample(seed, BUSY))
    imported, warnings = from_coco(json.loads((folder / "annotations.json").read_text()), seed)
    own = scene_of(drawn)
    assert warnings == ()
    assert imported.caption == own.caption
    assert [region.phrase for region in imported.regions] == [region.phrase for region in own.regions]
    for region, mask in zip(imported.regions, drawn.masks, strict=True):
        np.testing.assert_array_equal(region.soft_mask(128, 128), mask.astype(np.float32))


def test_annotations(folder: Path) -> None:
    coco = json.loads((folder / "annotations.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [f"{seed:06d}.png" for seed in SEEDS]
    ids = [annotation["id"] for annotation in coco["annotations"]]
    assert ids == list(range(1, 10))
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert {annotation["category_id"] for annotation in coco["annotations"]} == set(names)
    for annotation in coco["annotations"]:
        drawn = draw(sample(annotation["image_id"], BUSY))
        k = (annotation["id"] - 1) % 3
        x, y, w, h = annotation["bbox"]
        assert (x / 128, y / 128, (x + w) / 128, (y + h) / 128) == drawn.boxes()[k]
        assert annotation["area"] == drawn.masks[k].sum()


def test_scene_of_names_background_objects_and_style() -> None:
    drawn = draw(sample(5, Recipe(styled=1.0)), 192, 96)
    scene = scene_of(drawn)
    assert (scene.width, scene.height) == (192, 96)
    assert scene == scene_of(drawn)
    assert drawn.picture.style.split()[0] in scene.caption
    assert len(scene.regions) == len(drawn.picture.items)


def test_existing_files_stay(tmp_path: Path) -> None:
    export([1], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OutputError, match=r'annotations\.json" exists; choose another folder'):
        export([2], tmp_path)
    (tmp_path / "annotations.json").unlink()
    with pytest.raises(OutputError, match=r'000001\.png" exists'):
        export([2, 1], tmp_path)
    export([1], tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("seeds", "size", "complaint"),
    [([4, -1], (128, 128), "seed -1 is negative"), ([1], (8, 128), "width is 8"), ([1], (128, 10**6), "height is 10")],
)
def test_what_cannot_be_drawn_is_refused(
    tmp_path: Path, seeds: list[int], size: tuple[int, int], complaint: str
) -> None:
    with pytest.raises(SceneError, match=complaint):
        export(seeds, tmp_path / "out", width=size[0], height=size[1])
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        export([1], tmp_path / "file" / "out")
