"""Lists of scenes: the same scenes by the same names from every form; a bad one is reported and no other lost."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cloisonne.errors import SceneError
from cloisonne.scene import Record, Region, Scene, self_contained, write_picture
from cloisonne.scene.io.content_hash import content_hash, seed_of
from cloisonne.scene.io.scene_list import NamedScene, UnreadableScene, check_name, scene_list
from cloisonne.scene.shapes.rle import encode

SCENES = {
    "beach": Scene(caption="on a beach", regions=[Region(name="cat", box=(0.5, 0.5, 0.9, 0.9), phrase="a cat")]),
    "Übermut (2)": Scene(caption="a meadow", seed=7),
    "10": Scene(caption="[a:b:0.5]", steps=4, regions=[Region(box=(0, 0, 1, 0.5), phrase="(red:1.2) sky")]),
}
HALF = np.arange(64).reshape(8, 8) % 8 < 4


def as_folder(folder: Path) -> Path:
    """A folder, in which the last scene is inside a PNG, with an image that is none and annotations."""
    for name, scene in SCENES.items():
        if name == "10":
            record = Record(scene=self_contained(scene.to_dict(complete=True), folder))
            write_picture(Image.new("RGB", (8, 8)), folder / f"{name}.png", record=record)
        else:
            (folder / f"{name}.json").write_text(scene.to_json())
    Image.new("RGB", (8, 8)).save(folder / "photo.png")
    Image.new("RGB", (8, 8)).save(folder / "beach.png")
    (folder / "annotations.json").write_text('{"images": [], "annotations": []}')
    (folder / "notes.txt").write_text("nothing")
    return folder


def as_lines(folder: Path) -> Path:
    lines = [json.dumps({"name": name, **scene.to_dict()}) for name, scene in SCENES.items()]
    path = folder / "scenes.jsonl"
    path.write_text("\n\n".join(lines), encoding="utf-8")
    return path


def scenes(given: Any) -> dict[str, Scene]:
    found = list(scene_list(given))
    assert len(scene_list(given)) == len(found)
    assert not [one for one in found if isinstance(one, UnreadableScene)]
    return {one.name: one.scene for one in found if isinstance(one, NamedScene)}


@pytest.mark.parametrize("form", [as_folder, as_lines, lambda folder: SCENES], ids=["folder", "lines", "mapping"])
def test_scenes_come_back_by_their_names(form: Any, tmp_path: Path) -> None:
    found = scenes(form(tmp_path))
    assert {name: content_hash(scene) for name, scene in found.items()} == {
        name: content_hash(scene) for name, scene in SCENES.items()
    }
    assert found["Übermut (2)"].seed == 7


def test_a_mapping_takes_scenes_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(SCENES["beach"].to_json())
    forms = {"value": SCENES["beach"], "dict": SCENES["beach"].to_dict(), "path": tmp_path / "file.json"}
    assert set(scenes(forms).values()) == {SCENES["beach"]}


COCO = {
    "images": [{"id": 7, "width": 8, "height": 8}, {"id": "b", "width": 8, "height": 4}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 4, 8]},
        {"image_id": "b", "category_id": 2, "bbox": [2, 0, 20, 4]},
        {
            "image_id": 7,
            "category_id": 2,
            "segmentation": {"size": [8, 8], "counts": encode(HALF)},
            "bbox": [0, 0, 4, 8],
        },
        {"image_id": 7, "caption": "two animals"},
    ],
}


def test_each_image_of_coco_is_a_scene(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO))
    first, second = list(scene_list(path))
    assert isinstance(first, NamedScene)
    assert isinstance(second, NamedScene)
    assert (first.name, first.scene.caption) == ("7", "two animals")
    assert [region.phrase for region in first.scene.regions] == ["cat", "dog"]
    assert (second.name, second.scene.regions[0].box) == ("b", (0.25, 0.0, 1.0, 1.0))
    assert "clipped" in second.warnings[0]


def test_an_image_of_coco_without_anything_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(COCO | {"annotations": COCO["annotations"][:1]}))
    first, second = list(scene_list(path))
    assert isinstance(first, NamedScene)
    assert isinstance(second, UnreadableScene)
    assert "neither a region nor a caption" in second.error


BAD_LINES = {
    "not JSON": "{",
    "a list": "[]",
    "no name": '{"caption": "a cat"}',
    "an unknown field": '{"name": "a", "captoin": "a cat"}',
    "a folder in its name": '{"name": "../a", "caption": "a cat"}',
    "a number as name": '{"name": 7, "caption": "a cat"}',
    "another version": '{"name": "a", "version": 9}',
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_reported_by_its_number(line: str, tmp_path: Path) -> None:
    path = tmp_path / "scenes.jsonl"
    path.write_text(f'{{"name": "before", "caption": "a"}}\n\n{line}\n{{"name": "after", "caption": "b"}}\n')
    before, bad, after = list(scene_list(path))
    assert isinstance(bad, UnreadableScene)
    assert bad.name == "line 3"
    assert bad.error
    assert (before.name, after.name) == ("before", "after")


def test_paths_of_lines_start_at_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lists").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "lists" / "photo.png")
    path = tmp_path / "lists" / "scenes.jsonl"
    path.write_text('{"name": "a", "background": "photo.png"}\n')
    monkeypatch.chdir(tmp_path)
    background = scenes(Path("lists/scenes.jsonl"))["a"].background
    monkeypatch.chdir("/")
    assert background is not None
    assert background.read().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "content", [None, "", '{"caption": "a cat"}', "[]", '{"images": [1], "annotations": []}', "{"], ids=str
)
def test_what_is_no_list_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SceneError, match="give a folder of scenes"):
        scene_list(path)


@pytest.mark.parametrize("given", [7, None, ["a.json"]], ids=str)
def test_other_types_are_refused(given: Any) -> None:
    with pytest.raises(SceneError, match="mapping from names"):
        scene_list(given)


def test_an_empty_folder_and_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no scenes in"):
        scene_list(tmp_path)
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(SceneError, match="has no scenes"):
        scene_list(tmp_path / "a.jsonl")


@given(st.text(max_size=12))
def test_a_name_is_refused_or_names_a_file_in_its_folder(name: str) -> None:
    try:
        check_name(name)
    except SceneError:
        return
    assert Path(f"{name}.png").name == f"{name}.png"
    assert Path(f"folder/{name}.png").parent == Path("folder")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "c:", "a\n", ".a", "-a", "a ", "a.", "x" * 201, "\ud800"]
)
def test_names_that_are_no_files_are_refused(name: str) -> None:
    with pytest.raises(SceneError, match="can name a file"):
        check_name(name)


def test_content_does_not_depend_on_paths_seed_and_model(tmp_path: Path) -> None:
    made = []
    for place in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / place)
        made.append(Scene(background=tmp_path / place, seed=len(made), model=f"model-{place}"))
    assert content_hash(made[0]) == content_hash(made[1])
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "b.png")
    assert content_hash(made[0]) != content_hash(made[1])


@pytest.mark.parametrize("change", [{"caption": "b"}, {"steps": 3}, {"regions": []}, {"guidance": 2.0}, {"width": 64}])
def test_content_depends_on_every_field(change: dict[str, Any]) -> None:
    assert content_hash(SCENES["beach"]) != content_hash(SCENES["beach"].replace(**change))


def test_seeds_depend_on_name_and_content() -> None:
    seeds = {seed_of(name, content) for name in ("a", "b") for content in ("0" * 64, "1" * 64)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**32 for seed in seeds)
