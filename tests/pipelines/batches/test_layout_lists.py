"""Lists of benchmarks as scenes: COCO-MIG by its own files, LayoutSAM by rows of JSON."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloisonne.errors import SceneError
from cloisonne.eval.detection.coco_mig import read_mig
from cloisonne.pipelines.batches.layout_lists import listed
from cloisonne.scene.io.scene_list import NamedScene, UnreadableScene

MIG = {
    "0": {
        "caption": "a photo of a red cat and a blue dog",
        "segment": [
            {"label": "a red cat", "bbox": [0.1, 0.1, 0.5, 0.5]},
            {"label": "a blue dog", "bbox": [0.5, 0.5, 0.9, 0.9]},
        ],
    },
    "1": {
        "caption": "three",
        "segment": [{"label": "a green car", "bbox": [0.1 * k, 0.1, 0.1 * k + 0.3, 0.5]} for k in range(3)],
    },
}
ROW = {
    "file_name": "sa_1/sa_11.jpg",
    "global_caption": "a harbour (at dawn)",
    "width": 200,
    "height": 100,
    "bbox_list": [[0, 0, 100, 50], [150, 50, 260, 100], [300, 0, 310, 10]],
    "region_captions": ["sky", "ship", "nothing"],
    "detail_region_captions": ["an orange sky", "a yellow (cargo) ship", "nothing"],
}
BOXES = [(0.0, 0.0, 0.5, 0.5), (0.75, 0.5, 1.0, 1.0)]


def scenes(path: Path) -> list[NamedScene]:
    found = list(listed(path))
    assert len(found) == len(listed(path))
    assert all(isinstance(one, NamedScene) for one in found), found
    return [one for one in found if isinstance(one, NamedScene)]


def test_coco_mig_is_that_of_the_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "mig.json"
    path.write_text(json.dumps(MIG))
    found = scenes(path)
    assert [one.name for one in found] == ["0000", "0001"]
    assert [one.scene for one in found] == [layout.scene() for layout in read_mig(path).layouts]
    assert [region.phrase for region in found[0].scene.regions] == ["a red cat", "a blue dog"]


def test_yaml_and_json_of_coco_mig_are_the_same_scenes(tmp_path: Path) -> None:
    (tmp_path / "mig.json").write_text(json.dumps(MIG))
    entries: dict[str, Any] = {}
    for one in MIG.values():
        boxes = entries.setdefault(one["caption"], {"coco_id": 1})
        for instance in one["segment"]:
            boxes.setdefault(instance["label"], []).append(instance["bbox"])
    (tmp_path / "mig.yaml").write_text(json.dumps(entries))  # JSON is YAML
    assert [a.scene for a in scenes(tmp_path / "mig.json")] == [b.scene for b in scenes(tmp_path / "mig.yaml")]


def test_coco_is_still_coco(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    annotation = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "segmentation": [[0, 0, 5, 0, 5, 5]]}
    path.write_text(
        json.dumps(
            {
                "annotations": [annotation],
                "images": [{"id": 7, "width": 10, "height": 10}],
                "categories": [{"id": 1, "name": "cat"}],
            }
        )
    )
    assert [one.name for one in scenes(path)] == ["7"]


@pytest.mark.parametrize("form", ["lists", "json texts", "python texts", "objects"])
def test_layoutsam_in_all_its_forms(form: str, tmp_path: Path) -> None:
    row: dict[str, Any] = dict(ROW)
    names = ("bbox_list", "region_captions", "detail_region_captions")
    if form == "json texts":
        row |= {name: json.dumps(ROW[name]) for name in names}
    elif form == "python texts":
        row |= {name: str(ROW[name]) for name in names}
    elif form == "objects":
        keys = ("bbox", "description", "detail_description")
        boxes = [dict(zip(keys, one, strict=True)) for one in zip(*(ROW[name] for name in names), strict=True)]
        about = {name: ROW[name] for name in ("file_name", "width", "height")}
        row = {"metadata": {"bbox_info": boxes, "global_caption": ROW["global_caption"], "image_info": about}}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (found,) = scenes(path)
    assert found.name == "sa_11"
    assert [region.box for region in found.scene.regions] == BOXES
    assert [region.phrase for region in found.scene.regions] == ["an orange sky", r"a yellow \(cargo\) ship"]
    assert found.scene.caption == r"a harbour \(at dawn\)"
    assert found.warnings == ("Region 2 lies outside of the canvas and is left out.",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": None}, "width and height are"),
        ({"bbox_list": "[[0, 0"}, "give a list, or a text"),
        ({"bbox_list": [[0, 0, 1]]}, "1 boxes and 3 captions"),
        ({"bbox_list": [[0, 0, 1], [0] * 4, [0] * 4]}, r"give \[x0, y0, x1, y1\]"),
        ({"global_caption": 5}, "global_caption is 5"),
        ({"file_name": None}, "none of name, file_name and image_id"),
    ],
)
def test_a_damaged_row_is_one_sentence_and_the_others_stay(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n{json.dumps(ROW | change)}\n")
    whole, damaged = listed(path)
    assert isinstance(whole, NamedScene)
    assert isinstance(damaged, UnreadableScene)
    with pytest.raises(SceneError, match=words):
        raise SceneError(damaged.error)


def test_reading_lists_imports_no_torch() -> None:
    program = "import cloisonne.pipelines.batches.run, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
