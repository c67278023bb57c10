"""MRGD layouts become scenes."""

import json
from pathlib import Path
from typing import Any

import pytest

from cloisonne.errors import SceneError
from cloisonne.scene import Scene, from_mrgd


def record(
    mode: str, prompt: str = "a cat", box: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4), **more: Any
) -> dict[str, Any]:
    x, y, w, h = box
    return {"enable": True, "x": x, "y": y, "w": w, "h": h, "prompt": prompt, "blend_mode": mode} | more


LAYOUT = {
    "bbox_controls": [
        record("Background", "a beach", (0, 0, 1, 1), neg_prompt="", feather_ratio=0.2, seed=-1, key_prompt=""),
        record("Foreground", "a cat", feather_ratio=0.4, seed=5, key_prompt="cat, fur"),
        record("AdditionForeground", "a hat", (0.5, 0.5, 0.5, 0.25), neg_prompt="blurry", key_prompt="hat"),
        record("RemovalForeground", "a ball", (0.7, 0, 0.3, 0.3)),
        record("EditedSource", "a red car", (0, 0.6, 0.4, 0.4)),
        record("EditedTarget", "a blue car", (0, 0.6, 0.4, 0.4), key_prompt="car"),
        record("Middle", "nobody", enable=False),
    ]
}


def picture_text(layout: dict[str, Any], prompt: str = "best quality\n") -> str:
    """What MRGD writes into a picture: its prompts, then its settings, of which this is one."""
    control = {f"Region {k}": own for k, own in enumerate(layout["bbox_controls"], 1)}
    settings = {"Method": "MultiDiffusion", "Tile Overlap": 48, "Region control": control}
    return f"{prompt}Negative prompt: bad\nSteps: 20, Tiled Diffusion: {json.dumps(repr(settings))}, Seed: 1"


def test_a_layout_is_a_scene_of_edits() -> None:
    scene, warnings = from_mrgd(LAYOUT, caption="best quality")
    assert warnings == ()
    assert scene.to_dict() == {
        "version": 1,
        "caption": "best quality",
        "regions": [
            {"name": "region-0", "box": [0, 0, 1, 1], "phrase": "a beach", "priority": -1, "feather": 0.1},
            {
                "name": "region-1",
                "box": [0.1, 0.2, pytest.approx(0.4), pytest.approx(0.6)],
                "phrase": "a cat",
                "keywords": ["cat", "fur"],
                "feather": 0.2,
                "seed": 5,
            },
            {
                "name": "region-2",
                "box": [0.5, 0.5, 1.0, 0.75],
                "negative": "blurry",
                "edit": {"kind": "add", "phrase": "a hat"},
                "keywords": ["hat"],
                "feather": 0.1,
            },
            {
                "name": "region-3",
                "box": [0.7, 0, 1.0, 0.3],
                "edit": {"kind": "remove", "phrase": "a ball"},
                "feather": 0.1,
            },
            {
                "name": "region-4",
                "box": [0, 0.6, 0.4, 1.0],
                "edit": {"kind": "change", "from": "a red car", "to": "a blue car"},
                "keywords": ["car"],
                "feather": 0.1,
            },
        ],
    }
    assert Scene.from_json(scene.to_json()) == scene


def test_a_file_of_a_layout_loads_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text(json.dumps(LAYOUT))
    assert Scene.load(tmp_path / "layout.json").replace(caption="x") == from_mrgd(LAYOUT, "x")[0]


def test_a_parameters_text_is_a_scene() -> None:
    assert from_mrgd(picture_text(LAYOUT)) == from_mrgd(LAYOUT, "best quality")
    assert from_mrgd(picture_text(LAYOUT), "mine") == from_mrgd(LAYOUT, "mine")
    assert from_mrgd(picture_text(LAYOUT, prompt="")) == from_mrgd(LAYOUT)


def test_a_parameters_text_preserves_quotes_and_letters() -> None:
    layout = {"bbox_controls": [record("Foreground", 'the cat\'s "best" hat, café')]}
    assert from_mrgd(picture_text(layout))[0].regions[0].phrase == 'the cat\'s "best" hat, café'


def test_a_box_is_clipped_and_reported() -> None:
    scene, warnings = from_mrgd({"bbox_controls": [record("Foreground", box=(0.5, 0.5, 0.75, 0.25))]})
    assert scene.regions[0].box == (0.5, 0.5, 1.0, 0.75)
    assert warnings == (
        'Region "region-0": its box x 0.5, y 0.5, w 0.75, h 0.25 reaches outside the image and was clipped.',
    )
    rounded = {"bbox_controls": [record("Foreground", box=(0.3333, 0, 0.6668, 1))]}
    assert from_mrgd(rounded)[1] == ()


def test_two_changes_of_one_box_are_paired_in_order() -> None:
    words = [("EditedSource", "a car"), ("EditedTarget", "a bus"), ("EditedSource", "a cat"), ("EditedTarget", "a dog")]
    scene, _ = from_mrgd({"bbox_controls": [record(mode, prompt) for mode, prompt in words]})
    edits = [region.edit for region in scene.regions]
    assert [(edit.words_before, edit.words_after) for edit in edits if edit] == [("a car", "a bus"), ("a cat", "a dog")]


@pytest.mark.parametrize("seed", [-1, None])
def test_no_seed(seed: int | None) -> None:
    assert from_mrgd({"bbox_controls": [record("Foreground", seed=seed)]})[0].regions[0].seed is None


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "give a list of records"),
        ("no", "give a list of records"),
        ([record("Foreground", enable=False)], "None of the 1 records"),
        ([record("Middle")], r'"region-0".*blend_mode is "Middle"'),
        (["no"], r'"region-0".*give an object'),
        ([record("Foreground"), record("EditedSource")], r'"region-1".*no EditedTarget'),
        ([record("EditedTarget")], r'"region-0".*no EditedSource'),
        ([record("EditedSource"), record("EditedTarget"), record("EditedSource")], r'"region-2".*no EditedTarget'),
        ([record("EditedSource"), record("EditedTarget"), record("EditedTarget")], r'"region-2".*no EditedSource'),
        ([record("Foreground", enable="false")], r'"region-0".*enable is "false"'),
        ([record("Foreground", seed="abc")], r'"region-0".*seed is "abc"'),
        ([record("Foreground", neg_prompt=["a"])], r'"region-0".*neg_prompt is \["a"\]'),
        ([record("Foreground", key_prompt=["cat"])], r'"region-0".*key_prompt is \["cat"\]'),
        ([record("Foreground", key_prompt="cat," * 33)], r'"region-0".*at most 32 words'),
        ([record("Foreground", " ")], r'"region-0".*prompt is'),
        ([record("Foreground", box=(0.1, 2, 0.1, 0.1))], r'"region-0".*y is 2'),
        ([record("Foreground", box=(0.1, 0.1, 0, 0.1))], r'"region-0".*empty'),
        ([{"blend_mode": "Foreground", "prompt": "a cat"}], r'"region-0".*x is null'),
        ([record("Foreground", feather_ratio=7)], r'"region-0".*feather_ratio is 7'),
    ],
)
def test_invalid_records_are_refused(records: Any, message: str) -> None:
    with pytest.raises(SceneError, match=message):
        from_mrgd({"bbox_controls": records})


@pytest.mark.parametrize(
    "text", ["nothing", 'Tiled Diffusion: "{__import__(1)}"', "Tiled Diffusion: \"{'a': ", 'Tiled Diffusion: "{[]: 1}"']
)
def test_a_text_without_a_layout_is_refused(text: str) -> None:
    with pytest.raises(SceneError, match="Tiled Diffusion"):
        from_mrgd(text)
