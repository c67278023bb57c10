"""InvokeAI's metadata: settings, prompts with weights, and the shapes of its canvas as masks."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cloisonne.errors import SceneError
from cloisonne.scene import Region, Scene, from_invokeai, import_scene

WIDTH, HEIGHT = 96, 64
X, Y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
COLOUR = {"r": 200, "g": 30, "b": 30, "a": 1}
PLACED = "The metadata does not say where on the canvas the image lies; regions are placed from the canvas's origin."


def layer(*objects: dict[str, Any], **given: Any) -> dict[str, Any]:
    return {
        "id": "regional_guidance:x",
        "name": "hat",
        "type": "regional_guidance",
        "isEnabled": True,
        "isLocked": False,
        "position": {"x": 0, "y": 0},
        "opacity": 0.5,
        "fill": {"style": "solid", "color": COLOUR},
        "positivePrompt": "a hat",
        "negativePrompt": None,
        "referenceImages": [],
        "autoNegative": False,
        "objects": [{"id": f"o{k}", "clip": None} | one for k, one in enumerate(objects)],
    } | given


def metadata(*layers: dict[str, Any], **given: Any) -> dict[str, Any]:
    canvas = {"controlLayers": [], "inpaintMasks": [], "rasterLayers": [], "regionalGuidance": list(layers)}
    return {
        "positive_prompt": "a hall",
        "negative_prompt": "blurry",
        "width": WIDTH,
        "height": HEIGHT,
        "seed": 5,
        "steps": 25,
        "cfg_scale": 7.5,
        "cfg_rescale_multiplier": 0,
        "scheduler": "euler_a",
        "app_version": "6.2.0",
        "generation_mode": "txt2img",
        "canvas_v2_metadata": canvas,
    } | given


def rect(x: float, y: float, width: float, height: float, **more: Any) -> dict[str, Any]:
    box = {"x": x, "y": y, "width": width, "height": height}
    return {"type": "rect", "rect": box, "color": COLOUR, "compositeOperation": "source-over"} | more


def line(kind: str, width: float, *points: float, **more: Any) -> dict[str, Any]:
    return {"type": kind, "strokeWidth": width, "points": list(points), "color": COLOUR} | more


def mask_of(*objects: dict[str, Any], **given: Any) -> np.ndarray:
    scene, _ = from_invokeai(metadata(layer(*objects, **given)))
    return scene.regions[0].soft_mask(HEIGHT, WIDTH)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    return (X - x) ** 2 + (Y - y) ** 2 <= radius**2


def square(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return (x0 <= X) & (x1 > X) & (y0 <= Y) & (y1 > Y)


def test_the_settings() -> None:
    model = {"key": "k", "hash": "h", "name": "paper", "base": "sd-1", "type": "main"}
    loras = [{"model": {"name": "ink"}, "weight": 0.75}]
    scene, warnings = from_invokeai(metadata(model=model, loras=loras, clip_skip=1))
    assert scene == Scene(
        caption="a hall",
        negative="blurry",
        width=WIDTH,
        height=HEIGHT,
        seed=5,
        steps=25,
        guidance=7.5,
        sampler="euler-ancestral",
        lora={"ink": 0.75},
    )
    assert warnings == (
        'Its model was "paper"; the scene names none, so give it when the scene is used.',
        "Not carried: clip_skip: 1.",
    )


@pytest.mark.parametrize(
    ("given", "fields", "warning"),
    [
        ({"scheduler": "dpmpp_2m_k"}, {"sampler": "dpmpp-2m", "spacing": "karras"}, ""),
        ({"scheduler": "unipc"}, {"sampler": None}, 'The scheduler "unipc" was not carried'),
        ({"cfg_scale": 1, "guidance": 3.5}, {"guidance": 3.5}, ""),
        ({"cfg_scale": 2, "guidance": 3.5}, {"guidance": 3.5}, "cfg_scale 2 was not carried"),
        ({"steps": "many"}, {"steps": None}, "steps was not carried"),
        ({"width": 100}, {"width": None}, "width was not carried"),
        ({"ref_images": [{"id": "a"}]}, {}, "Not carried: ref_images"),
    ],
)
def test_settings_that_differ(given: dict[str, Any], fields: dict[str, Any], warning: str) -> None:
    scene, warnings = from_invokeai(metadata(**given))
    assert {name: getattr(scene, name) for name in fields} == fields
    assert warning in " ".join(warnings)
    assert bool(warnings) == bool(warning)


@pytest.mark.parametrize(
    ("base", "prompt", "caption"),
    [
        ("sdxl", "a red+ house, (two words)1.3, (a small word)--", None),
        ("sdxl", "a (big (red)1.2 hat)1.5 and blue-eyed cat-", None),
        ("sdxl", "plain (brackets) [x] {y}", r"plain brackets \[x\] \{y\}"),
        ("sdxl", '("a cat", "a dog").blend(0.5, 0.5)', r'\("a cat", "a dog"\).blend\(0.5, 0.5\)'),
        ("sdxl", "a smile :( (", r"a smile :\( \("),
        ("flux", "a (red)1.3 cat+", r"a \(red\)1.3 cat+"),
    ],
)
def test_weights_of_prompts(base: str, prompt: str, caption: str | None) -> None:
    weighted = {
        "a red+ house, (two words)1.3, (a small word)--": "a (red:1.1) house, (two words:1.3), (a small word:0.81)",
        "a (big (red)1.2 hat)1.5 and blue-eyed cat-": "a (big (red:1.2) hat:1.5) and blue-eyed (cat:0.9)",
    }
    scene, _ = from_invokeai(metadata(positive_prompt=prompt, model={"name": "m", "base": base}))
    assert scene.caption == (weighted[prompt] if caption is None else caption)


@pytest.mark.parametrize(
    ("one", "region"),
    [
        (rect(24, 16, 48, 32), {"box": (0.25, 0.25, 0.75, 0.75)}),
        (rect(-24, 16, 48, 320), {"box": (0, 0.25, 0.25, 1)}),
        ({**rect(24, 16, 48, 32), "type": "oval"}, {"ellipse": (0.25, 0.25, 0.75, 0.75)}),
        ({"type": "lasso", "points": [0, 0, 96, 0, 0, 64]}, {"polygon": ((0, 0), (1, 0), (0, 1))}),
        ({"type": "polygon", "points": [0, 0, 96, 0, 0, 64], "color": COLOUR}, {"polygon": ((0, 0), (1, 0), (0, 1))}),
    ],
)
def test_one_shape_stays_a_shape(one: dict[str, Any], region: dict[str, Any]) -> None:
    scene, warnings = from_invokeai(metadata(layer(one)))
    assert scene.regions == (Region(name="hat", phrase="a hat", **region),)
    assert (scene.overlap, warnings) == ("union", (PLACED,))


def embedded() -> str:
    alpha = np.zeros((20, 30, 4), np.uint8)
    alpha[5:, :, 3] = 255
    file = io.BytesIO()
    Image.fromarray(alpha).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


CAPSULE = square(20, 22, 60, 42) | disc(20, 32, 10) | disc(60, 32, 10)
PRESSED = [20, 20, 1.0, 20, 20, 0.5]


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([line("brush_line", 20, 30, 30)], disc(30, 30, 10)),
        ([line("brush_line", 20, 20, 32, 60, 32)], CAPSULE),
        (
            [line("brush_line", 20, 20, 32, 60, 32, clip={"x": 0, "y": 0, "width": 40, "height": 64})],
            CAPSULE & (X < 40),
        ),
        ([line("brush_line", 20, 20, 32, 60, 32), line("eraser_line", 8, 40, 32)], CAPSULE & ~disc(40, 32, 4)),
        ([line("brush_line_with_pressure", 20, 30, 30, 0.5, pressureAffectsWidth=True)], disc(30, 30, 5)),
        ([line("brush_line_with_pressure", 20, 30, 30, 0.5, pressureAffectsWidth=False)], disc(30, 30, 10)),
        ([line("brush_line_with_pressure", 40, 30, 30, 0.0)], disc(30, 30, 1)),
        (
            [rect(8, 8, 40, 40), rect(16, 16, 8, 8, compositeOperation="destination-out")],
            square(8, 8, 48, 48) & ~square(16, 16, 24, 24),
        ),
        ([rect(8, 8, 16, 16), rect(16, 16, 64, 8, compositeOperation="source-atop")], square(8, 8, 24, 24)),
        ([{"type": "image", "image": {"dataURL": embedded(), "width": 30, "height": 20}}], square(0, 5, 30, 20)),
    ],
)
@pytest.mark.parametrize("offset", [(0, 0), (7, -4)])
def test_what_is_drawn_and_erased(objects: list[dict[str, Any]], expected: np.ndarray, offset: tuple[int, int]) -> None:
    moved = np.zeros_like(expected)
    dx, dy = offset
    moved[max(dy, 0) : HEIGHT + min(dy, 0), max(dx, 0) :] = expected[max(-dy, 0) : HEIGHT - max(dy, 0), : WIDTH - dx]
    found = mask_of(*objects, position={"x": dx, "y": dy})
    rows = slice(0, HEIGHT + min(dy, 0))
    np.testing.assert_array_equal(found[rows], moved[rows])


def test_layers_are_regions_with_their_texts() -> None:
    second = layer(rect(0, 0, 48, 64), positivePrompt="a tree++", negativePrompt="leaves", isEnabled=False)
    scene, warnings = from_invokeai(metadata(layer(rect(8, 8, 8, 8)), second))
    assert [region.name for region in scene.regions] == ["hat", "hat 2"]
    assert (scene.regions[1].phrase, scene.regions[1].negative) == ("a (tree:1.21)", "leaves")
    assert [region.active for region in scene.regions] == [True, False], "a disabled layer has weight 0"
    assert warnings == (PLACED,)
    old = {"regionalGuidance": {"entities": [layer(rect(8, 8, 8, 8))]}}
    assert from_invokeai(metadata(canvas_v2_metadata=old))[0].regions == scene.regions[:1]


def test_what_the_metadata_name_but_do_not_contain_is_a_warning() -> None:
    reference = {"id": "r", "config": {"type": "ip_adapter", "image": {"image_name": "subject.png"}, "weight": 1}}
    masked = layer({"type": "image", "image": {"image_name": "mask.png", "width": 9, "height": 9}}, autoNegative=True)
    empty = layer(rect(8, 8, 8, 8), name="bare", positivePrompt=None, referenceImages=[reference])
    scene, warnings = from_invokeai(metadata(masked, empty))
    assert scene.regions == (Region(name="hat", box=(0, 0, 1, 1), phrase="a hat", weight=0),), "its text is kept"
    text = " ".join(warnings)
    for wanted in (
        'its image "mask.png"',
        "no shape on the canvas",
        "also a negative",
        '"subject.png"',
        '"bare" has no',
    ):
        assert wanted in text
    canvas = metadata()["canvas_v2_metadata"] | {"controlLayers": [{"id": "c"}], "rasterLayers": [{"id": "a"}]}
    assert from_invokeai(metadata(canvas_v2_metadata=canvas))[1] == (
        "Not carried: control layers (1).",
        "Not carried: raster layers (1).",
    )


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (layer(rect(8, 8, 8, "x")), 'Region "hat": rect is'),  # type: ignore[arg-type]
        (layer(line("brush_line", 20, 1, 2, 3)), 'Region "hat": points is [1, 2, 3]'),
        (layer(objects="none"), 'Region "hat": objects is "none"'),
        (layer({"type": "image", "image": {"dataURL": "data:image/png;base64,AAAA"}}), "embedded image cannot be read"),
    ],
)
def test_damaged_layers_are_refused_by_name(one: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError) as caught:
        from_invokeai(metadata(one))
    assert message in str(caught.value)


def test_an_unknown_object_is_left_out() -> None:
    scene, warnings = from_invokeai(metadata(layer(rect(8, 8, 8, 8), {"type": "gradient"})))
    assert 'Region "hat": its object of the type "gradient" was left out.' in warnings
    np.testing.assert_array_equal(scene.regions[0].soft_mask(HEIGHT, WIDTH), square(8, 8, 16, 16))


@pytest.mark.parametrize("name", ["image.png", "metadata.json"])
def test_files(tmp_path: Path, name: str) -> None:
    data = metadata(layer(rect(8, 8, 8, 8)))
    if name.endswith("json"):
        (tmp_path / name).write_text(json.dumps(data))
    else:
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("invokeai_metadata", json.dumps(data))
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / name, pnginfo=chunks)
    assert import_scene(tmp_path / name) == from_invokeai(data)


def test_metadata_without_a_size_have_that_of_the_image(tmp_path: Path) -> None:
    data = {k: v for k, v in metadata(layer(rect(0, 0, 48, 32))).items() if k not in ("width", "height")}
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("invokeai_metadata", json.dumps(data))
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png", pnginfo=chunks)
    assert import_scene(tmp_path / "a.png")[0].regions[0].box == (0, 0, 0.5, 0.5)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("invokeai_metadata", "{")
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "b.png", pnginfo=chunks)
    with pytest.raises(SceneError, match="cannot be read"):
        import_scene(tmp_path / "b.png")
