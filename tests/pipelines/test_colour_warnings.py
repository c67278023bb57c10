"""Images that condition a scene: a warning for any colour space but sRGB, however the file declares it."""

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from cloisonne.models.load import load
from cloisonne.pipelines.colour_warnings import colour_warnings
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

BOX = (0.0, 0.0, 0.5, 0.5)
SPACES: dict[str, tuple[dict[bytes, bytes], bytes | None, str]] = {
    "linear": ({b"gAMA": struct.pack(">I", 100_000)}, None, "gAMA 1"),
    "lab": ({}, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(), "the profile"),
    "rec2020": ({b"cICP": bytes([9, 16, 0, 1])}, None, "cICP with primaries 9"),
    "srgb": ({b"sRGB": b"\0"}, None, ""),
    "plain": ({}, None, ""),
}


def picture(space: str) -> ImageRef:
    chunks, profile, _ = SPACES[space]
    info = PngInfo()
    for name, data in chunks.items():
        info.add(name, data)
    file = io.BytesIO()
    options: dict[str, Any] = {} if profile is None else {"icc_profile": profile}
    Image.new("RGB", (64, 64), "red").save(file, "PNG", pnginfo=info, **options)
    return ImageRef(data=file.getvalue())


ROLES: dict[str, Any] = {
    "exemplar": lambda given: {"exemplar": {"image": given}},
    "control map": lambda given: {"control": {"kind": "color", "image": given}},
    "photo": lambda given: {"control": {"kind": "canny", "from": given}},
    "concept": lambda given: {"concept": {"image": given}},
}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("role", ROLES)
def test_a_warning_names_any_other_space_than_srgb(role: str, space: str) -> None:
    given = picture(space)
    region = Region(name="pet", box=BOX, **ROLES[role](given))
    scene = Scene(background=picture("srgb"), regions=[region])
    found = list(colour_warnings(scene))
    expected = SPACES[space][2]
    assert len(found) == bool(expected)
    if expected:
        assert found[0].startswith(f'Region "pet": the colour space of its {role} {given} is {expected}')
        assert found[0].endswith("convert the image to sRGB.")


@pytest.mark.parametrize("space", SPACES)
def test_a_warning_names_the_space_of_the_outside_image(space: str) -> None:
    region = Region(name="pet", box=BOX, phrase="a cat")
    found = list(colour_warnings(Scene(regions=[region], outside={"image": picture(space), "regions": ["pet"]})))
    assert [SPACES[space][2] in sentence for sentence in found] == [True] * bool(SPACES[space][2])


def test_it_is_among_the_warnings_of_a_scene(tiny_sd: Path, tmp_path: Path) -> None:
    from tiny import write_exemplar

    model = load(tiny_sd, exemplar=write_exemplar(tmp_path / "pbe"))
    scene = Scene(regions=[Region(name="pet", box=BOX, exemplar=picture("linear"))], steps=1)
    assert any("its exemplar" in sentence for sentence in prepare(scene, model, blank=True).warnings)
