"""The JSON of GLIGEN's and InstanceDiffusion's demos, and files of every JSON format by their content."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloisonne.errors import SceneError
from cloisonne.scene import (
    Region,
    Scene,
    from_coco,
    from_elements,
    from_gligen,
    from_gligen_demo,
    from_instance_diffusion,
    from_mrgd,
    import_scene,
)
from cloisonne.scene.shapes.rle import Rle

DEMO = {
    "ckpt": "weights.pth",
    "prompt": "a clock (old) on a table",
    "phrases": ["a clock", "a table"],
    "locations": [[0.1, 0.2, 0.5, 0.6], [0, 0.5, 1, 1]],
    "save_folder_name": "out",
}


def test_gligen() -> None:
    scene, warnings = from_gligen_demo(DEMO)
    assert (scene, warnings) == from_gligen(DEMO["phrases"], DEMO["locations"], DEMO["prompt"])
    assert scene.caption == r"a clock \(old\) on a table"


def test_images_of_gligen_are_exemplars_and_the_background() -> None:
    masks = {"text_mask": [1, 0], "image_mask": [0, 1], "alpha_type": [0.3, 0, 0.7]}
    scene, warnings = from_gligen_demo(DEMO | masks | {"images": ["none.png", "style.png"], "input_image": "room.jpg"})
    assert scene.regions == (
        Region(name="region-0", box=(0.1, 0.2, 0.5, 0.6), phrase="a clock"),
        Region(name="region-1", box=(0, 0.5, 1, 1), exemplar="style.png"),
    )
    assert str(scene.background) == '"room.jpg"'
    assert warnings == ("Not carried: alpha_type: [0.3, 0, 0.7].",)


def test_gligen_without_phrases_and_with_empty_boxes() -> None:
    data = {"prompt": "", "images": ["a.png", "b.png"], "locations": [[0, 0, 1, 1], [0, 1, 0, 1]]}
    scene, warnings = from_gligen_demo(data)
    assert scene.regions == (Region(name="region-0", box=(0, 0, 1, 1), exemplar="a.png"),)
    assert warnings == ('Region "region-1", "b.png", has an empty box and was left out.',)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phrases": ["a clock"]}, "give a list of 2"),
        ({"locations": [[0, 0, 1], [0, 0, 1, 1]]}, 'Region "region-0": locations is [0, 0, 1]'),
        ({"locations": "all"}, 'locations is "all"'),
        ({"phrases": ["a clock", ""]}, 'Region "region-1": The region has no phrase'),
    ],
)
def test_damaged_gligen(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError) as caught:
        from_gligen_demo(DEMO | changes)
    assert message in str(caught.value)


def instances(*annos: dict[str, Any]) -> dict[str, Any]:
    return {"caption": "a yard", "width": 200, "height": 100, "annos": list(annos)}


MASK = np.zeros((100, 200), bool)
MASK[20:60, 50:90] = True
RLE = Rle.of(MASK).model_dump(mode="json")


@pytest.mark.parametrize(
    ("anno", "shape", "warned"),
    [
        ({"bbox": [20, 10, 100, 50], "mask": []}, {"box": (0.1, 0.1, 0.6, 0.6)}, False),
        ({"bbox": [20, 10, 100, 50], "mask": RLE}, {"rle": RLE}, False),
        ({"bbox": [150, 10, 100, 50]}, {"box": (0.75, 0.1, 1, 0.6)}, True),
        ({"point": [100, 50]}, {"ellipse": (0.475, 0.45, 0.525, 0.55)}, True),
        ({"point": [0, 50]}, {"box": (0, 0.45, 0.025, 0.55)}, True),
        ({"bbox": [20, 10, 100, 50], "point": [40, 30]}, {"box": (0.1, 0.1, 0.6, 0.6)}, True),
    ],
)
def test_shapes_of_instances(anno: dict[str, Any], shape: dict[str, Any], warned: bool) -> None:
    scene, warnings = from_instance_diffusion(instances(anno | {"caption": "a (big) dog", "category_name": "dog"}))
    (region,) = scene.regions
    assert region.phrase == r"a \(big\) dog"
    (name, expected), *_ = shape.items()
    found = getattr(region, name)
    assert found == Rle(**expected) if name == "rle" else found == pytest.approx(expected)
    assert bool(warnings) == warned


def test_instances_with_empty_boxes_are_left_out() -> None:
    scene, warnings = from_instance_diffusion(instances({"bbox": [0, 100, 0, 0], "caption": "sun"}))
    assert scene.regions == ()
    assert warnings == ('Region "region-0", "sun", has an empty box and was left out.',)


@pytest.mark.parametrize("form", [[[20, 50], [120, 50]], [20, 50, 120, 50]])
def test_scribbles_are_lines_with_a_width(form: list[Any]) -> None:
    scene, warnings = from_instance_diffusion(instances({"scribble": form, "category_name": "wall"}))
    x, y = np.meshgrid(np.arange(200) + 0.5, np.arange(100) + 0.5)
    expected = np.hypot(x - np.clip(x, 20, 120), y - 50) <= 2.5
    np.testing.assert_array_equal(scene.regions[0].soft_mask(100, 200), expected)
    assert (scene.regions[0].phrase, len(warnings)) == ("wall", 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (instances({"caption": "a"}), 'Region "region-0": The instance has no shape'),
        (instances({"caption": "a", "bbox": [0, 0, 10]}), 'Region "region-0": bbox is [0, 0, 10]'),
        (instances({"caption": "a", "mask": "abc"}), 'Region "region-0": mask is "abc"'),
        (instances({"caption": "a", "mask": {"size": [2, 2], "counts": [3]}}), 'Region "region-0": rle has runs'),
        (instances({"caption": "a", "scribble": [1, 2, 3]}), 'Region "region-0": scribble is [1, 2, 3]'),
        (instances({"caption": "a", "scribble": [[-90, -90]]}), "outside the image"),
        (instances({"bbox": [0, 0, 10, 10]}), 'Region "region-0": The region has no phrase'),
        (instances() | {"width": 0}, "The image has the size [0, 100]"),
        ({"annos": [7]}, 'no list of objects "annos"'),
    ],
)
def test_damaged_instances(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError) as caught:
        from_instance_diffusion(data)
    assert message in str(caught.value)


COCO = {
    "images": [{"id": 1, "width": 10, "height": 10}, {"id": 2, "width": 10, "height": 10}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"image_id": 2, "category_id": 1, "bbox": [0, 0, 5, 5]}],
}
MRGD = {"bbox_controls": [{"x": 0, "y": 0, "w": 0.5, "h": 0.5, "prompt": "a", "blend_mode": "Foreground", "seed": -1}]}
ELEMENTS = {"elements": [{"bbox": [0, 0, 500, 500], "desc": "a cat"}]}
SCENE = {"version": 1, "caption": "a room", "regions": [{"box": [0, 0, 1, 1], "phrase": "a cat"}]}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (ELEMENTS, from_elements(ELEMENTS)),
        (ELEMENTS["elements"], from_elements(ELEMENTS)),
        (COCO, from_coco(COCO, 2)),
        (MRGD, from_mrgd(MRGD)),
        (DEMO, from_gligen_demo(DEMO)),
        (
            {"gligen_phrases": ["a"], "gligen_boxes": [[0, 0, 1, 1]], "prompt": "b"},
            from_gligen(["a"], [[0, 0, 1, 1]], "b"),
        ),
        (
            instances({"bbox": [0, 0, 9, 9], "caption": "a"}),
            from_instance_diffusion(instances({"bbox": [0, 0, 9, 9], "caption": "a"})),
        ),
        (SCENE, (Scene.from_dict(SCENE), ())),
    ],
    ids=["elements", "list", "coco", "mrgd", "gligen", "diffusers", "instances", "scene"],
)
def test_files_are_known_by_their_content(tmp_path: Path, data: Any, found: tuple[Scene, tuple[str, ...]]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(data))
    assert import_scene(tmp_path / "a.json", image_id="2") == found


def test_paths_of_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(DEMO | {"images": ["a.png", "b.png"]}))
    scene, _ = import_scene(tmp_path / "a.json")
    assert scene.regions[1].exemplar is not None
    assert scene.regions[1].exemplar.image.path == tmp_path / "b.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"a": 1, "b": 2}', 'it has "a", "b"'), ('{"caption"', "cannot be read"), ("[" * 100_000, "cannot be read")],
)
def test_other_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SceneError) as caught:
        import_scene(tmp_path / "a.json")
    assert message in str(caught.value)
