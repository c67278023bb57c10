"""Pictures from outside: what is stored is what was decoded, and nothing large is ever decoded."""

import io
import struct
import zlib
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from studio_client import photo, png, served, settings_in, upload

from cloisonne.studio.settings import Limits

pytestmark = pytest.mark.anyio


def bomb(side: int) -> bytes:
    """A small file that decodes to side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(2**16)) for _ in range(4000)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def animated() -> bytes:
    return png(photo(), "WEBP", save_all=True, append_images=[photo(seed=1)])


async def read(client: httpx.AsyncClient, picture: str) -> Image.Image:
    answer = await client.get(f"/v1/pictures/{picture}")
    assert answer.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    return image


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
async def test_pixels_come_back(client: httpx.AsyncClient, mode: str) -> None:
    image = photo(33, 21, mode)
    answer = await upload(client, png(image))
    assert answer.status_code == 201
    found = answer.json()
    assert (found["width"], found["height"], found["scene"]) == (33, 21, None)
    back = await read(client, found["id"])
    assert (back.mode, back.tobytes()) == (image.mode, image.tobytes())
    assert (await client.get(found["url"] + "/info")).json()["sha256"] == found["sha256"]


async def test_sixteen_bits_of_a_mask_come_back(client: httpx.AsyncClient) -> None:
    mask = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16)
    back = await read(client, (await upload(client, png(mask))).json()["id"])
    assert (np.asarray(back) == np.asarray(mask)).all()


async def test_a_photo_is_turned_upright_and_its_place_is_forgotten(client: httpx.AsyncClient) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "at home"
    exif.get_ifd(0x8825)[1] = "N"
    answer = (await upload(client, png(photo(40, 20), "JPEG", exif=exif, comment=b"secret comment"))).json()
    assert (answer["width"], answer["height"]) == (20, 40)
    data = (await client.get(answer["url"])).content
    assert all(word not in data for word in (b"at home", b"secret", b"eXIf", b"Exif"))


async def test_texts_of_a_file_are_forgotten(client: httpx.AsyncClient) -> None:
    """Cases 20, 30: no script, no key, no workflow of another tool is served again."""
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "api_key=123 <script>alert(1)</script>")
    answer = (await upload(client, png(photo(), pnginfo=info))).json()
    data = (await client.get(answer["url"])).content
    assert b"script" not in data
    assert b"api_key" not in data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<html><script>alert(1)</script></html>",
        png(photo())[:200],
        png(photo(), "JPEG")[:300],
        png(photo())[:100] + b"\0" * 100,
        png(photo(), "BMP"),
        png(photo(), "GIF"),
        png(photo(), "TIFF"),
        animated(),
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\xff\xff\xff\x7fWEBPVP8L",
        b"%PDF-1.4",
        b"\x80\x04\x95",
        b"PK\x03\x04",
    ],
    ids=lambda data: repr(data[:12]),
)
async def test_anything_else_is_one_sentence_and_leaves_nothing(client: httpx.AsyncClient, data: bytes) -> None:
    """Cases 1, 2, 9, 20: a broken upload, a script, a pickle, an archive."""
    answer = await upload(client, data)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["kind"] == "ImageError"
    assert error["message"].startswith("The picture ")
    assert list((client.data / "pictures").rglob("*.*")) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("side", [5_000, 20_000, 2**31 - 1])
async def test_large_pictures_are_refused_by_their_header(client: httpx.AsyncClient, side: int) -> None:
    """Case 9: 400 megapixels in a few hundred kilobytes."""
    answer = await upload(client, bomb(side))
    assert answer.status_code == 422
    assert "but at most 4096 x 4096 are allowed" in answer.json()["error"]["message"]


async def test_the_limit_is_the_settings(tmp_path: Path) -> None:
    async with served(settings_in(tmp_path, limits=Limits(pixels=64 * 64))) as client:
        assert (await upload(client, png(photo(64, 64)))).status_code == 201
        assert (await upload(client, png(photo(65, 64)))).status_code == 422


@pytest.mark.parametrize(
    "files",
    [
        [("file", ("a", png(photo()))), ("file", ("b", png(photo())))],
        [("picture", ("a", png(photo())))],
        [("file", ("a", png(photo()))), ("more", ("b", b""))],
        [(f"f{index}", ("a", b"")) for index in range(100)],
        [("a" * 100_000, ("a", b""))],
    ],
    ids=["twice", "other", "more", "many", "long name"],
)
async def test_other_forms_are_refused(client: httpx.AsyncClient, files: list) -> None:
    """Case 23."""
    answer = await client.post("/v1/pictures", files=files)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"--b", b"--b\r\n\r\n" * 1000, b"\r\n" * 10**6, b"--b\r\n" + b"a: b\r\n" * 10**5]
)
async def test_broken_forms_are_refused(client: httpx.AsyncClient, body: bytes) -> None:
    """Case 23: boundaries and headers without end."""
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = await client.post("/v1/pictures", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    for boundary in ("", "x" * 10_000):
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        assert (await client.post("/v1/pictures", content=body, headers=headers)).status_code in (400, 422)


async def test_thumbnails_and_downloads(client: httpx.AsyncClient) -> None:
    picture = (await upload(client, png(photo(200, 100, "RGBA")))).json()["id"]
    small = await client.get(f"/v1/pictures/{picture}?side=50")
    assert small.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(small.content)).size == (50, 25)
    assert (await client.get(f"/v1/pictures/{picture}?side=100000")).status_code == 422
    saved = await client.get(f"/v1/pictures/{picture}?download=1")
    assert saved.headers["content-disposition"] == f'attachment; filename="{picture}.png"'
    assert (await client.delete(f"/v1/pictures/{picture}")).status_code == 204
    assert (await client.get(f"/v1/pictures/{picture}")).status_code == 404


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "C:%5Cx", "a", "0" * 33, "%00"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_pictures_have_no_names(client: httpx.AsyncClient, name: str, method: str) -> None:
    """Cases 10 to 14, 21."""
    for path in (f"/v1/pictures/{name}", f"/v1/pictures/{name}/info", f"/v1/jobs/{name}", f"/v1/jobs/{name}/preview"):
        assert (await client.request(method, path)).status_code in (404, 405)
