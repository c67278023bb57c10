"""Colour space and resolution of a given picture: preserved in the result, with a warning if it is not sRGB."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from cloisonne.scene import Source, write_picture
from cloisonne.scene.io.colour_space import own_space
from cloisonne.scene.io.image_ref import ImageRef, given_background

SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
WIDE = (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def png(chunks: dict[bytes, bytes], mode: str = "RGB", **options: Any) -> bytes:
    info = PngImagePlugin.PngInfo()
    for kind, data in chunks.items():
        info.add(kind, data)
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, "PNG", pnginfo=info, **options)
    return file.getvalue()


def chunks_of(data: bytes) -> dict[bytes, bytes]:
    """All chunks of a PNG but pixels, palette and texts."""
    at, found = 8, {}
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        found[kind] = data[at + 8 : at + 8 + length]
        at += 12 + length
    return {kind: value for kind, value in found.items() if kind not in (b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tEXt")}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@given(
    gamma=st.none() | st.integers(1, 2**31 - 1),
    chromaticity=st.none() | st.tuples(*[st.integers(0, 2**31 - 1)] * 8),
    srgb=st.none() | st.integers(0, 3),
    cicp=st.none() | st.binary(min_size=4, max_size=4),
    dpi=st.none() | st.tuples(*[st.integers(1, 100_000)] * 2),
    profile=st.none() | st.binary(min_size=1, max_size=40),
)
def test_every_chunk_of_the_source_is_in_the_result(
    tmp_path_factory: pytest.TempPathFactory, mode: str, gamma, chromaticity, srgb, cicp, dpi, profile
) -> None:
    given_chunks = {
        b"gAMA": None if gamma is None else struct.pack(">I", gamma),
        b"cHRM": None if chromaticity is None else struct.pack(">8I", *chromaticity),
        b"sRGB": None if srgb is None else bytes([srgb]),
        b"cICP": cicp,
    }
    options = {"dpi": None if dpi is None else tuple(number * 0.0254 for number in dpi), "icc_profile": profile}
    data = png(
        {kind: value for kind, value in given_chunks.items() if value is not None},
        mode,
        **{name: value for name, value in options.items() if value is not None},
    )
    source = Source.load(ImageRef(data=data))
    result = source.pasted(np.zeros_like(source.rgb), np.ones(source.rgb.shape[:2], np.float32))
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_picture(result, path)
    assert chunks_of(path.read_bytes()) == chunks_of(data)
    assert chunks_of(given_background(result).read()) == chunks_of(data)


@pytest.mark.parametrize(("extension", "dpi"), [(".jpg", (300, 200)), (".png", (300, 200))])
def test_the_resolution_of_a_jpeg_is_preserved(tmp_path: Path, extension: str, dpi: tuple[int, int]) -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", dpi=dpi)
    source = Source.load(ImageRef(data=file.getvalue()))
    path = tmp_path / f"a{extension}"
    write_picture(source.pasted(source.rgb, np.ones((6, 8), np.float32)), path)
    with Image.open(path) as image:
        assert image.info["dpi"] == pytest.approx(dpi, abs=0.01)


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 1), (1e9, 1e9), ("a", "b"), 3])
def test_a_resolution_that_is_none_is_left_out(tmp_path: Path, dpi: object) -> None:
    image = Image.fromarray(PIXELS)
    image.info["dpi"] = dpi
    write_picture(image, tmp_path / "a.png")
    assert "dpi" not in Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).info


@pytest.mark.parametrize(
    ("chunks", "options", "expected"),
    [
        ({}, {}, ""),
        ({b"sRGB": b"\0"}, {}, ""),
        ({b"gAMA": struct.pack(">I", 45455)}, {}, ""),
        ({b"gAMA": struct.pack(">I", 45455), b"cHRM": struct.pack(">8I", *SRGB)}, {}, ""),
        ({b"gAMA": struct.pack(">I", 100_000)}, {}, "gAMA 1"),
        ({b"cHRM": struct.pack(">8I", *WIDE)}, {}, "cHRM"),
        ({b"gAMA": struct.pack(">I", 100_000), b"sRGB": b"\0"}, {}, ""),
        ({b"cICP": bytes([1, 13, 0, 1])}, {}, ""),
        ({b"cICP": bytes([9, 16, 0, 1])}, {}, "primaries 9 and transfer 16"),
        ({b"gAMA": struct.pack(">I", 100_000)}, {"icc_profile": SRGB_PROFILE}, ""),
        ({}, {"icc_profile": b"no profile"}, "cannot be read"),
    ],
)
def test_another_space_than_srgb_is_named(chunks: dict[bytes, bytes], options: dict[str, bytes], expected: str) -> None:
    words = own_space(Source.load(ImageRef(data=png(chunks, "RGB", **options))).metadata)
    assert expected in words
    assert bool(words) == bool(expected)
