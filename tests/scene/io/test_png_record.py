import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from cloisonne.errors import SceneError
from cloisonne.scene import Record, Region, Scene, infotext, self_contained, write_picture
from cloisonne.scene.io.image_ref import encoded

NATIVE = {"width": 128, "height": 128, "steps": 20, "guidance": 4.0, "sampler": "ddim", "method": "reco"}
VERSIONS = {"cloisonne": "0.1.0", "torch": "2.13.0"}


def written(scene: Scene, path: Path, *, embed: bool = True, **facts: Any) -> dict[str, str]:
    """Write a small picture that carries ``scene`` and return its texts."""
    record = Record(
        scene=self_contained(scene.to_dict(complete=True), path.parent, embed=embed),
        model_hash="0123456789abcdef",
        versions=VERSIONS,
        **facts,
    )
    write_picture(
        Image.new("RGB", (8, 8)), path, record=record, parameters=infotext(scene, record), overwrite=path.exists()
    )
    with Image.open(path) as image:
        return {key: text for key, text in image.info.items() if isinstance(text, str)}


@settings(max_examples=25)
@given(
    grey=st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((6, 5))),
    kind=st.sampled_from(["bool", "uint8", "uint16", "float64"]),
    seed=st.integers(0, 2**53 - 1),
)
def test_a_scene_with_grey_masks_comes_back_from_its_png(tmp_path_factory, grey, kind, seed) -> None:
    mask = {"bool": grey > 0.5, "uint8": np.uint8(grey * 255), "uint16": np.uint16(grey * 65535), "float64": grey}[kind]
    scene = Scene(
        caption="on a beach\nat night",
        seed=seed,
        regions=[
            Region(name="sky", mask=mask, phrase="stars, “many”", feather=0.1),
            Region(name="pet", ellipse=(0, 0, 0.5, 1), phrase="a cat", weight=2.5),
        ],
    ).resolved(**NATIVE)
    path = tmp_path_factory.mktemp("png") / "out.png"
    written(scene, path)
    assert Scene.load(path) == Scene.from_png(path)
    again = Scene.from_png(path)
    assert again.replace(regions=()) == scene.replace(regions=())
    for before, after in zip(scene.regions, again.regions, strict=True):
        assert after.replace(mask=before.mask, mask_channel=before.mask_channel) == before
        assert (after.soft_mask(6, 5) == before.soft_mask(6, 5)).all()
        assert (after.soft_mask(24, 32) == before.soft_mask(24, 32)).all()


def test_a_png_needs_no_other_file(tmp_path) -> None:
    photo, mask = tmp_path / "photo.jpg", tmp_path / "mask.png"
    Image.effect_noise((16, 16), 60).convert("RGB").save(photo)
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    Image.fromarray(colours).save(mask)
    scene = Scene(background=photo, regions=[Region(mask=mask, phrase="a cat")]).resolved(**NATIVE)
    expected_photo, expected_mask = photo.read_bytes(), scene.regions[0].soft_mask(16, 16)
    written(scene, tmp_path / "out.png")
    photo.unlink()
    mask.unlink()
    again = Scene.from_png(tmp_path / "out.png")
    assert again.background.read() == expected_photo
    assert (again.regions[0].soft_mask(16, 16) == expected_mask).all()


@pytest.mark.parametrize("large", [False, True])
def test_inputs_that_are_not_embedded_are_a_relative_path_and_a_hash(tmp_path, large) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    photo = tmp_path / "in" / "photo.png"
    photo.write_bytes(encoded(Image.new("RGB", (4, 4))) + bytes(8 * 2**20 if large else 0))
    scene = Scene(background=photo).resolved(**NATIVE)
    texts = written(scene, tmp_path / "out" / "a.png", embed=large)
    assert json.loads(texts["cloisonne"])["scene"]["background"] == {
        "path": "../in/photo.png",
        "sha256": hashlib.sha256(photo.read_bytes()).hexdigest(),
    }
    again = Scene.from_png(tmp_path / "out" / "a.png")
    assert again.background.read() == photo.read_bytes()
    photo.write_bytes(b"another")
    with pytest.raises(ValueError, match="is not the image that the scene was made with"):
        again.background.read()


def test_an_image_from_memory_that_is_not_embedded_must_be_given_again(tmp_path) -> None:
    scene = Scene(background=np.zeros((4, 4), np.uint8)).resolved(**NATIVE)
    written(scene, tmp_path / "a.png", embed=False)
    again = Scene.from_png(tmp_path / "a.png")
    with pytest.raises(ValueError, match="was not saved with the scene; give it again"):
        again.background.read()


def test_masks_are_embedded_in_any_case(tmp_path) -> None:
    Image.new("L", (4, 4), 250).save(tmp_path / "mask.png")
    scene = Scene(regions=[Region(mask=tmp_path / "mask.png", phrase="a cat")]).resolved(**NATIVE)
    written(scene, tmp_path / "a.png", embed=False)
    (tmp_path / "mask.png").unlink()
    assert Scene.from_png(tmp_path / "a.png").regions[0].soft_mask(4, 4) == pytest.approx(250 / 255)


def test_inputs_above_the_limit_of_a_record_are_not_embedded(tmp_path, monkeypatch) -> None:
    photo, mask = tmp_path / "photo.png", np.random.default_rng(0).random((20, 20))
    photo.write_bytes(encoded(Image.new("RGB", (4, 4))))
    scene = Scene(background=photo, regions=[Region(mask=mask, phrase=phrase) for phrase in "ab"]).resolved(**NATIVE)
    monkeypatch.setattr("cloisonne.scene.io.png_record.MAX_RECORD_BYTES", len(photo.read_bytes()) + 1000)
    stored = json.loads(written(scene, tmp_path / "a.png")["cloisonne"])["scene"]
    assert stored["background"].startswith("data:image/png")
    assert stored["regions"][0]["mask"].startswith("data:image/png")
    assert stored["regions"][1]["mask"].keys() == {"sha256"}


def test_metadata_has_neither_dates_nor_absolute_paths(tmp_path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(encoded(Image.new("RGB", (4, 4))))
    scene = Scene(background=photo, model=str(tmp_path / "models" / "mine")).resolved(**NATIVE)
    texts = written(scene, tmp_path / "a.png", embed=False)
    data = (tmp_path / "a.png").read_bytes()
    assert texts.keys() == {"cloisonne", "parameters"}
    assert str(tmp_path).encode() not in data
    assert json.loads(texts["cloisonne"])["scene"]["model"] == "mine"
    assert b"tIME" not in data
    assert not re.search(rb"\b20\d\d-\d\d", data)


def test_equal_runs_write_equal_bytes(tmp_path) -> None:
    scene = Scene(seed=1, regions=[Region(mask=np.eye(4), phrase="a cat")]).resolved(**NATIVE)
    written(scene, tmp_path / "a.png")
    written(Scene.from_png(tmp_path / "a.png"), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"user": "me"}, 'There is no field "user"'),
        ({"version": 2}, "version is 2"),
        ({"scene": []}, "scene is []; give an object"),
        ({"device": "/dev/nvidia0"}, "is an absolute path"),
        ({"versions": {"torch": "C:\\torch"}}, "is an absolute path"),
        ({"versions": {str(n): "1" for n in range(99)}}, "versions is"),
        ({"device": "x" * 1000}, "device is"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_only_known_facts_are_carried(changes, wrong) -> None:
    with pytest.raises(SceneError) as caught:
        Record(**({"scene": {}} | changes))
    assert wrong in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (None, "carries no scene"),
        ("{", "not JSON"),
        ("[1]", "give a JSON object"),
        ("{}", "scene is missing"),
        ('{"scene": {"steps": 0}}', "steps is 0"),
        ('{"scene": {"regions": [{"name": "pet", "box": [2, 2, 3, 3], "phrase": "a"}]}}', 'Region "pet": box is'),
        (
            '{"scene": {"background": "/etc/passwd"}}',
            '"/etc/passwd" is neither embedded nor a relative path',
        ),
        ('{"scene": {"background": "photo.png"}}', 'background "photo.png" is neither embedded nor a relative path'),
        ('{"scene": {"background": {"path": "/photo.png", "sha256": "0"}}}', "is neither embedded nor a relative path"),
        ('{"scene": {"regions": [{"mask": {"path": "photo.png"}}]}}', "is neither embedded nor a relative path"),
        ('{"scene": {}, "run": "rm"}', 'There is no field "run"'),
    ],
)
def test_the_metadata_of_a_png_is_checked(tmp_path, text, wrong) -> None:
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_text("cloisonne", text)
    Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(SceneError) as caught:
        Scene.from_png(tmp_path / "a.png")
    assert wrong in str(caught.value)


def test_a_text_that_unpacks_to_a_gigabyte_is_refused(tmp_path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("cloisonne", "x" * 50_000_000, zip=True)
    Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    assert (tmp_path / "a.png").stat().st_size < 100_000
    with pytest.raises(SceneError, match="cannot be read as a PNG"):
        Scene.from_png(tmp_path / "a.png")


def parsed_elsewhere(parameters: str) -> dict[str, str]:
    """The settings as AUTOMATIC1111's web UI reads them: its regular expression over the last line."""
    found = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', parameters.split("\n")[-1])
    return {name: json.loads(value) if value.startswith('"') else value for name, value in found}


def test_other_tools_read_the_parameters(tmp_path) -> None:
    scene = Scene(
        caption="on a beach\nSteps: 99, Seed: 1, Size: 1x1",
        negative="rain",
        seed=5,
        sampler="euler-ancestral",
        spacing="karras",
        model="a, b: c",
        regions=[
            Region(box=(0, 0, 1, 1), phrase="a cat"),
            Region(box=(0, 0, 1, 1), phrase="nothing", weight=0),
        ],
    ).resolved(**NATIVE)
    text = written(scene, tmp_path / "a.png")["parameters"]
    assert text.split("\n")[:2] == [
        "on a beach Steps: 99, Seed: 1, Size: 1x1, a cat",
        "Negative prompt: rain",
    ]
    assert parsed_elsewhere(text) == {
        "Steps": "20",
        "Sampler": "Euler a",
        "Schedule type": "Karras",
        "CFG scale": "4",
        "Seed": "5",
        "Size": "128x128",
        "Model hash": "0123456789",
        "Model": "a, b: c",
        "Version": "cloisonne 0.1.0",
    }


def test_a_given_picture_has_a_denoising_strength(tmp_path) -> None:
    scene = Scene(background=np.zeros((4, 4), np.uint8), strength=0.5, eta=0.25).resolved(**NATIVE)
    settings_read = parsed_elsewhere(written(scene, tmp_path / "a.png")["parameters"])
    assert settings_read["Denoising strength"] == "0.5"
    assert settings_read["Eta"] == "0.25"
