"""AUTOMATIC1111's infotext, from text and from the metadata of images; Forge Couple's regions."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cloisonne.errors import CloisonneError, ImageError, SceneError
from cloisonne.scene import Record, Region, Scene, from_infotext, import_scene, infotext, region_weights, write_picture
from cloisonne.scene.io.infotext import SAMPLERS

SETTINGS = (
    "Steps: 24, Sampler: Euler a, Schedule type: Automatic, CFG scale: 6.5, Seed: 4071, Size: 640x512, "
    "Model hash: 0a1b2c3d4e, Model: paper-v2, Version: v1.10.1"
)
TEXT = f"a lighthouse, (storm:1.2)\nheavy sea\nNegative prompt: blurry, text\nlow quality\n{SETTINGS}"
MODEL = 'Its model was "paper-v2"; the scene names none, so give it when the scene is used.'


def test_prompts_and_settings() -> None:
    scene, warnings = from_infotext(TEXT)
    assert scene == Scene(
        caption="a lighthouse, (storm:1.2) heavy sea",
        negative="blurry, text low quality",
        width=640,
        height=512,
        seed=4071,
        steps=24,
        guidance=6.5,
        sampler="euler-ancestral",
    )
    assert warnings == (MODEL,)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("DPM++ 2M Karras", ("dpmpp-2m", "karras")),
        ("DPM++ 2M, Schedule type: Automatic", ("dpmpp-2m", "karras")),
        ("DPM++ 2M, Schedule type: Uniform", ("dpmpp-2m", "default")),
        ("DPM++ 2M", ("dpmpp-2m", "default")),
        ("Euler, Schedule type: Karras", ("euler", "karras")),
        ("LCM", ("lcm", "default")),
    ],
)
def test_samplers_and_schedules(sampler: str, expected: tuple[str, str]) -> None:
    scene, warnings = from_infotext(f"a cat\nSteps: 20, Sampler: {sampler}, CFG scale: 7")
    assert (scene.sampler, scene.spacing) == expected
    assert warnings == ()


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ("Steps: many, CFG scale: 7, Seed: 1", 'Steps was not carried. steps is "many"'),
        ("Steps: 20, CFG scale: 7, Seed: -1", 'Seed was not carried. seed is "-1"'),
        ("Steps: 20, CFG scale: 7, Size: 500x512", "Size was not carried. width is 500"),
        ("Steps: 20, CFG scale: 7, Size: large", 'Size was not carried. width is "large"'),
        ("Steps: 20, CFG scale: 7, Sampler: UniPC", 'The sampler "UniPC" was not carried'),
        ("Steps: 20, Sampler: Euler, Schedule type: Beta", 'The schedule type "beta" was not carried'),
        ("Steps: 20, CFG scale: 2, Distilled CFG Scale: 3.5", 'CFG scale "2" was not carried; the guidance is'),
        ('Steps: 20, CFG scale: 7, Clip skip: 2, Hires note: "a, b: c"', 'Clip skip: "2", Hires note: "a, b: c"'),
        ("Steps: 20, CFG scale: 7, Seed: 1\nTemplate: {x}", 'the lines after the settings, "Template: {x}"'),
    ],
)
def test_what_is_not_carried_is_named(settings: str, warning: str) -> None:
    scene, warnings = from_infotext(f"a cat\n{settings}")
    assert scene.caption == "a cat"
    assert warning in " ".join(warnings)


def test_the_distilled_guidance_of_flux_is_the_guidance() -> None:
    scene, warnings = from_infotext("a cat\nSteps: 20, CFG scale: 1, Distilled CFG Scale: 3.5")
    assert (scene.guidance, warnings) == (3.5, ())


@pytest.mark.parametrize(
    ("prompt", "caption", "changed"),
    [
        ("a {cat|dog}", r"a \{cat|dog\}", False),
        (r"a \(small\) cat, [dog:0.4]", r"a \(small\) cat, [dog:0.4]", False),
        ("a smile :) (", r"a smile :\) \(", True),
        ("a [cat|dog]", r"a \[cat|dog\]", True),
        ("a cat <lora:ink:0.8:0.2>", "a cat <lora:ink:0.8>", True),
        (r"a \{ b", r"a \\\{ b", False),
    ],
)
def test_signs_that_mean_something_else_here(prompt: str, caption: str, changed: bool) -> None:
    scene, warnings = from_infotext(f"{prompt}\nSteps: 20, CFG scale: 7, Seed: 1")
    assert scene.caption == caption
    assert bool(warnings) == changed


@pytest.mark.parametrize("sampler", [*SAMPLERS, "lcm", "tcd"])
@pytest.mark.parametrize("spacing", ["default", "karras"])
def test_our_own_infotext_comes_back(sampler: str, spacing: str) -> None:
    scene = Scene(
        caption="a (cat:1.2)",
        negative="blurry",
        seed=9,
        steps=12,
        guidance=4.5,
        width=128,
        height=64,
        sampler=sampler,
        spacing=spacing,
    )
    record = Record(scene=scene.to_dict(complete=True), model_hash="00", versions={"cloisonne": "0.2"})
    found, warnings = from_infotext(infotext(scene, record))
    assert found == scene
    assert warnings == ('Its model was "builtin"; the scene names none, so give it when the scene is used.',)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.txt"])
def test_it_is_read_from_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("txt"):
        path.write_text(TEXT, encoding="utf-8-sig")
    else:
        write_picture(Image.new("RGB", (8, 8)), path, parameters=TEXT)
    assert import_scene(path) == from_infotext(TEXT)


@pytest.mark.parametrize(
    ("order", "mark"), [("utf-16-be", b"UNICODE\0"), ("utf-16-le", b"UNICODE\0"), ("utf-8", b"ASCII\0\0\0")]
)
def test_user_comments_of_other_tools(tmp_path: Path, order: str, mark: bytes) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = mark + TEXT.encode(order)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif.tobytes())
    assert import_scene(tmp_path / "a.jpg") == from_infotext(TEXT)


def with_texts(path: Path, **texts: str) -> Path:
    chunks = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        chunks.add_text(key.replace("_", "-") if key.startswith("sd") else key, text)
    Image.new("RGB", (64, 64)).save(path, pnginfo=chunks)
    return path


def test_files_without_an_infotext_are_refused(tmp_path: Path) -> None:
    whole = with_texts(tmp_path / "whole.png", parameters=TEXT).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-20])
    (tmp_path / "notes.txt").write_text("a cat on a roof\nand a dog")
    (tmp_path / "bytes.bin").write_bytes(b"\xff\x00\xfe")
    cases: list[tuple[Path, type[CloisonneError], str]] = [
        (with_texts(tmp_path / "none.png"), SceneError, "no metadata that is read"),
        (with_texts(tmp_path / "graph.png", prompt="{}"), SceneError, "a graph of ComfyUI"),
        (with_texts(tmp_path / "old.png", sd_metadata="{}"), SceneError, "before version 3"),
        (tmp_path / "cut.png", ImageError, "cannot be read as an image"),
        (tmp_path / "notes.txt", SceneError, "neither the settings nor"),
        (tmp_path / "bytes.bin", SceneError, "of no format that is read"),
        (tmp_path / "absent.png", SceneError, "cannot be read (No such file"),
    ]
    for path, kind, message in cases:
        with pytest.raises(kind) as caught:
            import_scene(path)
        assert message in str(caught.value), path


def couple(mode: str, prompt: str, **more: str) -> str:
    given = {"forge_couple": "True", "forge_couple_mode": mode, "forge_couple_separator": "\\n"}
    given |= {f"forge_couple_{name}": value for name, value in more.items()}
    return f"{prompt}\nNegative prompt: blurry\n{SETTINGS}, " + ", ".join(f"{k}: {v}" for k, v in given.items())


def shares(scene: Scene, height: int, width: int) -> list[np.ndarray]:
    """The share of each region in each pixel's mean."""
    masks = [region.soft_mask(height, width) for region in scene.regions]
    weights = region_weights(masks, [one.weight for one in scene.regions], [0] * len(masks), "blend")
    assert (np.sum(weights, axis=0) >= 1 - 1e-6).all(), "nothing is left to the caption"
    return [weight / np.sum(weights, axis=0) for weight in weights]


@pytest.mark.parametrize("direction", ["Horizontal", "Vertical"])
@pytest.mark.parametrize("background", ["None", "First Line", "Last Line"])
def test_tiles_of_forge_couple(direction: str, background: str) -> None:
    lines = ["a street", "a man", "a woman", "a dog"]
    text = couple("Basic", "\n".join(lines), direction=direction, background=background, background_weight="0.5")
    scene, warnings = from_infotext(text)
    assert warnings == (MODEL,)
    assert (scene.caption, scene.negative) == ("", "blurry")
    found = shares(scene, 24, 24)
    behind = {"None": None, "First Line": "a street", "Last Line": "a dog"}[background]
    tiles = [line for line in lines if line != behind]
    for region, share in zip(scene.regions, found, strict=True):
        expected = np.zeros((24, 24))
        if region.phrase == behind:
            expected[:] = 0.5 / 1.5
        else:
            index, side = tiles.index(region.phrase), 24 // len(tiles)
            part = (slice(None), slice(index * side, (index + 1) * side))
            expected[part if direction == "Horizontal" else part[::-1]] = 1 / 1.5 if behind else 1
        np.testing.assert_allclose(share, expected, atol=1e-6)


def test_boxes_of_forge_couple() -> None:
    mapping = [[0, 1, 0, 1, 0.25], [0, 0.5, 0, 1, 1], [0.5, 1, 0.25, 1, 0.5]]
    text = couple(
        "Advanced", "a {c:blue} room\na man, {c}\na dog", mapping=json.dumps(json.dumps(mapping)), common_parser="{ }"
    )
    scene, _ = from_infotext(text)
    assert [region.phrase for region in scene.regions] == ["a blue room", "a man, blue", "a dog"]
    given = np.zeros((3, 8, 8))
    for layer, (x0, x1, y0, y1, weight) in zip(given, mapping, strict=True):
        layer[int(y0 * 8) : int(y1 * 8), int(x0 * 8) : int(x1 * 8)] = weight
    np.testing.assert_allclose(shares(scene, 8, 8), given / given.sum(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (couple("Mask", "a man\na dog"), 'forge_couple_mode is "Mask", but the text does not contain its masks'),
        (couple("Advanced", "a man\na dog", mapping='"[[0, 1, 0, 1, 1]]"'), "forge_couple_mapping is"),
        (couple("Advanced", "a man", mapping='"[[0, 1, 0, 1"'), "forge_couple_mapping is"),
        (
            couple("Advanced", "a man", mapping='"[[0, 1, 0, 1]]"'),
            'Region "region-0": forge_couple_mapping is [0, 1, 0, 1]',
        ),
        (couple("Advanced", "a man", mapping='"[[0.5, 0.2, 0, 1, 1]]"'), "inverted or empty"),
    ],
)
def test_damaged_regions_of_forge_couple(text: str, message: str) -> None:
    with pytest.raises(SceneError) as caught:
        from_infotext(text)
    assert message in str(caught.value)
    assert from_infotext(text, regions=False)[0].regions == (), "the prompt is there without them"


def test_the_regions_of_tiled_diffusion() -> None:
    record = {"enable": True, "x": 0.25, "y": 0, "w": 0.5, "h": 1, "prompt": "a (dog:1.2)", "neg_prompt": ""}
    record |= {"blend_mode": "Foreground", "feather_ratio": 0, "seed": -1}
    tiled = json.dumps(str({"Method": "x", "Region control": {"Region 1": record}}))
    scene, warnings = from_infotext(f"a park\nNegative prompt: blurry\n{SETTINGS}, Tiled Diffusion: {tiled}")
    assert scene.regions == (Region(name="region-0", box=(0.25, 0, 0.75, 1), phrase="a (dog:1.2)"),)
    assert (scene.caption, scene.negative, scene.seed) == ("a park", "blurry", 4071)
    assert warnings == (MODEL,)
