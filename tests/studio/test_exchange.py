"""Files of other tools through the API: what ``cloisonne import`` reads of the same files, without files elsewhere."""

import base64
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from studio_client import SCENE, photo, png, upload

from cloisonne.scene import Scene, import_scene, to_coco, to_elements

pytestmark = pytest.mark.anyio
INFOTEXT = """on a beach BREAK a doughnut BREAK a cat
Negative prompt: blurry
Steps: 20, Sampler: Euler a, CFG scale: 6, Seed: 7, Size: 128x128, Clip skip: 2, RP Active: True"""
COLUMNS = ', RP Divide mode: Matrix, RP Matrix submode: Columns, RP Ratios: "1,1", RP Use Common: True'
INVOKEAI = {"positive_prompt": "on a beach", "width": 64, "height": 64, "steps": 20, "app_version": "6.0"} | {
    "strength": 0.5
}
COCO = {
    "images": [{"id": one, "width": 64, "height": 64, "file_name": f"{one}.png"} for one in (7, 8)],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [8, 8, 24, 24]},
        {"id": 2, "image_id": 8, "category_id": 1, "segmentation": [[8, 8, 40, 8, 8, 40]]},
        {"id": 3, "image_id": 8, "category_id": 1, "bbox": [8, 8, 90, 24]},
    ],
}
GLIGEN = {"prompt": "on a beach", "phrases": ["a cat"], "locations": [[0.1, 0.1, 0.5, 0.5]], "alpha_type": [0.3, 0, 1]}


def with_text(**texts: str) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    return png(photo(), pnginfo=info)


def layer(*box: int) -> bytes:
    image = Image.new("RGBA", (64, 48))
    if box:
        image.paste("red", box)
    return png(image)


def photoshop() -> bytes:
    from psd_tools import PSDImage

    document = PSDImage.new("RGB", (64, 48))
    document.create_pixel_layer(Image.new("RGBA", (20, 10), "red"), "a cat", top=4, left=6, opacity=128)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def js(data: Any) -> Callable[[], bytes]:
    return lambda: json.dumps(data).encode()


FILES: dict[str, tuple[str, Callable[[], bytes], dict[str, Any]]] = {
    "AUTOMATIC1111": ("image.png", lambda: with_text(parameters=INFOTEXT + COLUMNS), {}),
    "its prompt alone": ("image.png", lambda: with_text(parameters=INFOTEXT + COLUMNS), {"regions": False}),
    "its text": ("infotext.txt", (INFOTEXT + COLUMNS).encode, {}),
    "InvokeAI": ("image.png", lambda: with_text(invokeai_metadata=json.dumps(INVOKEAI)), {}),
    "COCO": ("annotations.json", js(COCO), {"image_id": "8"}),
    "GLIGEN": ("gligen.json", js(GLIGEN), {}),
    "elements": ("elements.json", js(to_elements(Scene.from_dict(SCENE))[0]), {}),
    "a list of elements": ("elements.json", js([{"bbox": [100, 100, 500, 500], "desc": "a cat"}, {"desc": "fog"}]), {}),
    "PSD": ("art.psd", photoshop, {}),
    "a scene": ("scene.json", js(SCENE), {}),
}


async def imported(client: httpx.AsyncClient, files: Mapping[str, bytes], **options: Any) -> httpx.Response:
    fields = {"image_id": options["image_id"]} if "image_id" in options else {}
    fields |= {"prompt_only": "true"} if options.get("regions") is False else {}
    return await client.post("/v1/import", files=[("file", (name, data)) for name, data in files.items()], data=fields)


async def embedded(client: httpx.AsyncClient, scene: dict[str, Any]) -> Scene:
    """A scene with the stored pictures of its masks in place of their ids."""
    regions = []
    for region in scene.get("regions", []):
        if "mask" in region:
            stored = (await client.get(f"/v1/pictures/{region['mask']['picture']}")).content
            region = region | {"mask": f"data:image/png;base64,{base64.b64encode(stored).decode()}"}
        regions.append(region)
    return Scene.from_dict(scene | {"regions": regions})


def assert_equal(found: Scene, expected: Scene) -> None:
    fields = [scene.replace(regions=()) for scene in (found, expected)]
    assert fields[0] == fields[1]
    for one, other in zip(found.regions, expected.regions, strict=True):
        whole = {"mask": None, "mask_channel": "auto", "box": (0, 0, 1, 1)} if one.mask else {}
        assert one.replace(**whole) == other.replace(**whole)
        np.testing.assert_array_equal(one.soft_mask(64, 48), other.soft_mask(64, 48))


@pytest.mark.parametrize("kind", FILES)
async def test_a_file_is_what_the_command_reads(client: httpx.AsyncClient, tmp_path: Path, kind: str) -> None:
    name, data, options = FILES[kind]
    (tmp_path / name).write_bytes(data())
    expected, warnings = import_scene(tmp_path / name, **options)
    answer = await imported(client, {name: data()}, **options)
    assert answer.status_code == 200, answer.text
    assert answer.json()["warnings"] == list(warnings)
    assert_equal(await embedded(client, answer.json()["scene"]), expected)


async def test_several_files_are_layers(client: httpx.AsyncClient, tmp_path: Path) -> None:
    files = {"01 a cat.png": layer(0, 0, 32, 48), "02 a red hat.png": layer(16, 0, 64, 24), "03 empty.png": layer()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    expected, warnings = import_scene(tmp_path)
    answer = (await imported(client, files)).json()
    assert answer["warnings"] == list(warnings)
    assert 'The layer "empty" is empty and was left out.' in warnings
    assert_equal(await embedded(client, answer["scene"]), expected)


async def test_the_mask_of_regional_prompter(client: httpx.AsyncClient, tmp_path: Path) -> None:
    image, mask = Image.new("RGB", (64, 64), (64, 127, 127)), tmp_path / "mask.png"
    image.paste((127, 64, 64), (32, 0, 64, 64))
    image.save(mask)
    (tmp_path / "image.png").write_bytes(with_text(parameters=INFOTEXT + ", RP Divide mode: Mask, RP Use Common: True"))
    expected, warnings = import_scene(tmp_path / "image.png", mask=mask)
    files = {"file": ("image.png", (tmp_path / "image.png").read_bytes()), "mask": ("m.png", mask.read_bytes())}
    answer = (await client.post("/v1/import", files=files)).json()
    assert answer["warnings"] == list(warnings)
    assert_equal(await embedded(client, answer["scene"]), expected)


@pytest.mark.parametrize("kind", ["AUTOMATIC1111", "InvokeAI"])
async def test_an_uploaded_picture_brings_its_scene(client: httpx.AsyncClient, tmp_path: Path, kind: str) -> None:
    name, data, _ = FILES[kind]
    (tmp_path / name).write_bytes(data())
    expected, warnings = import_scene(tmp_path / name)
    answer = (await upload(client, data())).json()
    assert (answer["warnings"], answer["scene_error"]) == (list(warnings), None)
    assert Scene.from_dict(answer["scene"]) == expected
    assert warnings


async def test_files_elsewhere_are_left_out_and_named(client: httpx.AsyncClient, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    photo().save(secret)
    given = GLIGEN | {"images": [str(secret)], "input_image": str(secret)}
    answer = (await imported(client, {"gligen.json": json.dumps(given).encode()})).json()
    assert answer["scene"]["regions"] == [{"name": "region-0", "box": [0.1, 0.1, 0.5, 0.5], "phrase": "a cat"}]
    assert "background" not in answer["scene"]
    assert sum("is a file elsewhere and was left out" in one for one in answer["warnings"]) == 2
    names = ("../secret.png", str(secret))
    for name in names:
        regions = [
            {"name": "m", "mask": name, "phrase": "a cat"},
            {"name": "b", "box": [0, 0, 1, 1], "phrase": "a dog"},
        ]
        files = {"scene.json": json.dumps({"regions": regions}).encode(), "a cat.png": layer(0, 0, 32, 48)}
        answer = (await imported(client, files)).json()
        assert [region["name"] for region in answer["scene"]["regions"]] == ["b", "a cat"]
        assert "is a file elsewhere" in answer["warnings"][0]


@pytest.mark.parametrize("form", ["coco", "elements"])
async def test_a_scene_is_written_as_the_command_writes_it(client: httpx.AsyncClient, form: str) -> None:
    mask = photo(64, 64, "L").point(lambda _: 0)
    mask.paste(255, (16, 32, 48, 64))
    stored = (await upload(client, png(mask))).json()["id"]
    regions = [*SCENE["regions"], {"name": "m", "mask": {"picture": stored}, "phrase": "a cat"}]
    asked = {"scene": SCENE | {"regions": regions}, "format": form}
    asked |= {"size": [96, 80]} if form == "coco" else {}
    answer = (await client.post("/v1/export", json=asked)).json()
    scene = Scene.from_dict(SCENE | {"regions": [*SCENE["regions"], {**regions[-1], "mask": mask}]})
    expected, warnings = to_coco(scene, (96, 80)) if form == "coco" else to_elements(scene)
    assert answer == {"data": json.loads(json.dumps(expected)), "warnings": list(warnings)}


async def test_pictures_of_an_export_leave_nothing_behind(client: httpx.AsyncClient) -> None:
    mask = f"data:image/png;base64,{base64.b64encode(png(photo(64, 64, 'L'))).decode()}"
    scene = {"regions": [{"name": "m", "mask": mask, "phrase": "a cat"}]}
    assert (await client.post("/v1/export", json={"scene": scene, "format": "coco"})).status_code == 200
    assert [*(client.data / "pictures").rglob("*.png")] == []  # type: ignore[attr-defined]


HUGE = b"8BPS\0\1" + bytes(6) + b"\0\3" + (20_000).to_bytes(4, "big") * 2 + b"\0\x08\0\3"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.json": b"{}"}, "no format that is read"),
        ({"a.json": b"{"}, "cannot be read"),
        ({"a.psd": HUGE}, "20000 x 20000 pixels"),
        ({"a.psd": b"8BPS" + bytes(40)}, "cannot be read as a PSD"),
        ({"a.png": png(photo())}, "no metadata that is read"),
        ({"a.json": json.dumps([{"desc": "a cat", "bbox": [0, 0, 10, 10]}] * 65).encode()}, "at most 64"),
        ({"a.json": json.dumps([{"desc": "x" * 2001, "bbox": [0, 0, 10, 10]}]).encode()}, "at most 2000"),
        ({"a.json": json.dumps(COCO).encode()}, "image"),
        ({"a.png": layer(0, 0, 9, 9), "b.jpg": png(photo(), "JPEG")}, "is no PNG"),
        ({"a.png": layer(0, 0, 9, 9), "b.png": png(photo(9, 9))}, "export all layers at the size"),
        ({"a.png": layer(0, 0, 9, 9), "x/../a.png": layer(0, 0, 9, 9)}, "two files"),
        ({}, 'no file "file"'),
    ],
)
async def test_what_is_refused(client: httpx.AsyncClient, files: dict[str, bytes], message: str) -> None:
    if not files:
        answer = await client.post("/v1/import", data={"image_id": "7"}, files={"mask": ("m.png", png(photo()))})
    else:
        answer = await imported(client, files)
    assert answer.status_code == 422, answer.text
    found = answer.json()["error"]["message"]
    assert message in found
    assert "/tmp" not in found
    assert [*(client.data / "pictures").rglob("*.png")] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "body",
    [
        {"scene": {"elements": []}, "format": "coco"},
        {"scene": {"regions": [{"box": [0, 0, 1, 1]}]}, "format": "coco"},
        {"scene": {"background": "/etc/passwd"}, "format": "elements"},
        {"scene": SCENE, "format": "masks"},
        {"scene": SCENE, "format": "coco", "size": [0, 64]},
    ],
)
async def test_what_is_not_written(client: httpx.AsyncClient, body: Any) -> None:
    answer = await client.post("/v1/export", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].endswith(".")
