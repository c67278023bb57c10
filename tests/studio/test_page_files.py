"""The page in a real browser: files of other tools, by Open, drop and the dialog, with their warnings shown."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from studio_page import AXE, NO_BROWSER, Studio

pytestmark = NO_BROWSER
COCO: dict[str, Any] = {
    "images": [{"id": one, "width": 128, "height": 128, "file_name": f"{one}.png"} for one in (7, 8)],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [
        {"id": one, "image_id": one, "category_id": 1, "bbox": [8, 8, 10 * one, 20], "iscrowd": 0} for one in (7, 8)
    ],
}
INFOTEXT = """on a beach BREAK a doughnut BREAK a cat
Steps: 20, Sampler: Euler a, CFG scale: 6, Seed: 7, Size: 128x128, Clip skip: 2, RP Active: True, \
RP Divide mode: Matrix, RP Matrix submode: Columns, RP Ratios: "1,1", RP Use Common: True"""


def notice(studio: Studio, begin: str) -> str:
    """The message that begins so."""
    found = studio.page.locator(".notice", has_text=begin)
    found.wait_for()
    studio.settle()
    return found.inner_text()


def test_files_of_other_tools_open_with_their_warnings(studio: Studio, tmp_path: Path) -> None:
    """By drop, by Open, several as layers, and by the dialog, which asks for what a file lacks."""
    info = PngInfo()
    info.add_text("parameters", INFOTEXT)
    file = io.BytesIO()
    Image.new("RGB", (128, 128)).save(file, "PNG", pnginfo=info)
    studio.drop(file.getvalue(), "a1111.png")
    assert "Clip skip" in notice(studio, "Restored the scene of a1111.png: 2 regions.")
    assert {region["phrase"] for region in studio.regions()} == {"a doughnut", "a cat"}
    assert studio.doc()["scene"]["seed"] == 7

    psd_tools = pytest.importorskip("psd_tools")
    document = psd_tools.PSDImage.new("RGB", (128, 128))
    document.create_pixel_layer(Image.new("RGBA", (40, 20), "red"), "a red hat", top=4, left=6, opacity=128)
    document.save(tmp_path / "art.psd")
    studio.page.set_input_files("#open-file", tmp_path / "art.psd")
    assert "its opacity became its weight" in notice(studio, "art.psd: 1 regions.")
    assert studio.regions()[0]["phrase"] == "a red hat"

    for name in ("01 a car.png", "02 a ball.png"):
        layer = Image.new("RGBA", (128, 128))
        layer.paste("red", (0, 0, 64, 128))
        layer.save(tmp_path / name)
    studio.page.set_input_files("#open-file", [tmp_path / "01 a car.png", tmp_path / "02 a ball.png"])
    notice(studio, "01 a car.png, 02 a ball.png: 2 regions.")
    assert [region["phrase"] for region in studio.regions()] == ["a ball", "a car"]  # the upper one first

    (tmp_path / "coco.json").write_text(json.dumps(COCO))
    studio.page.set_input_files("#open-file", tmp_path / "coco.json")
    notice(studio, "give the id of one")
    assert len(studio.regions()) == 2
    assert len(studio.faults) == 1
    assert "422" in studio.faults.pop()
    studio.page.get_by_text("Scene", exact=True).click()
    studio.page.get_by_role("button", name="Import from another tool").click()
    studio.page.get_by_label("Files", exact=True).set_input_files(tmp_path / "coco.json")
    studio.page.get_by_label("Which image of COCO annotations").fill("8")
    if AXE.exists():
        assert studio.violations() == []
    studio.page.get_by_role("button", name="Read the scene").click()
    notice(studio, "coco.json: 1 regions.")
    assert studio.regions()[0]["box"] == [0.0625, 0.0625, 0.6875, 0.21875]
