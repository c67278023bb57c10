import hashlib
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from cloisonne.errors import ImageError
from cloisonne.scene.io.image_ref import ImageRef, data_uri, encoded, given_background, given_mask
from cloisonne.scene.io.images import load_mask, mask_image, mask_values, opened, turned_back, turned_upright

GREY = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10


def file_of(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    return file_of(frames[0], kind, save_all=True, append_images=frames[1:])


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises ``width`` x ``height`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


DAMAGED = {
    "empty": b"",
    "text": b"not a picture at all",
    "truncated png": encoded(Image.effect_noise((64, 64), 50))[:-1500],
    "truncated jpeg": file_of(Image.effect_noise((64, 64), 50), "JPEG")[:-400],
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_images_are_one_sentence(data) -> None:
    with pytest.raises(ImageError) as caught:
        opened(ImageRef(data=data), "mask", "sky")
    assert str(caught.value).startswith('Region "sky": The mask <')
    assert caught.value.region == "sky"


@pytest.mark.parametrize("size", [(8001, 8000), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_before_they_are_decoded(size) -> None:
    with pytest.raises(ImageError, match=r'Region "sky": The mask .* megapixels.*shrink it\.'):
        opened(ImageRef(data=bomb(*size)), "mask", "sky")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_are_refused(kind) -> None:
    with pytest.raises(ImageError, match="is animated"):
        opened(ImageRef(data=animation(kind)), "background")


def test_a_phones_jpeg_with_a_second_image_is_its_first() -> None:
    assert opened(ImageRef(data=animation("MPO")), "background").size == (4, 4)


def test_files_that_cannot_be_read(tmp_path) -> None:
    for path, sentence in [
        (tmp_path / "sky.png", "There is no file"),
        (tmp_path, "is not a file"),
        (tmp_path / "a\0b", "There is no file"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ]:
        with pytest.raises(ImageError, match=sentence) as caught:
            opened(ImageRef(path=path), "mask", "sky")
        assert caught.value.region == "sky"


def test_an_image_with_another_hash_is_refused(tmp_path) -> None:
    data = encoded(Image.new("L", (4, 4)))
    (tmp_path / "a.png").write_bytes(data)
    meant = ImageRef(path=tmp_path / "a.png", sha256=hashlib.sha256(data).hexdigest())
    assert meant.read() == data
    (tmp_path / "a.png").write_bytes(data + b"x")
    with pytest.raises(ImageError, match="is not the image that the scene was made with"):
        meant.read()


def test_sixteen_bits_a_colour_are_refused_where_they_would_be_lost() -> None:
    deep = cv2.imencode(".png", np.full((4, 4, 3), 40_000, np.uint16))[1].tobytes()
    with pytest.raises(ImageError, match="16 bits per colour channel"):
        opened(ImageRef(data=deep), "background", exact=True)
    assert load_mask(ImageRef(data=deep)) == pytest.approx(40_000 / 65_535, abs=1 / 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_are_turned_upright(orientation) -> None:
    stored = turned_back(Image.fromarray(GREY), orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    mask = load_mask(ImageRef(data=file_of(stored, exif=exif)))
    assert mask == pytest.approx(GREY / 255)
    assert (np.asarray(turned_upright(stored, orientation)) == GREY).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_masks_of_every_format(kind) -> None:
    white = Image.new("L", (6, 4), 255)
    assert (load_mask(ImageRef(data=file_of(white, kind))) == 1).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_white_is_one_and_black_is_zero_in_every_mode(mode) -> None:
    pixels = np.where(GREY > 100, 255, 0).astype(np.uint8)
    image = Image.fromarray(pixels)
    image = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    assert (load_mask(ImageRef(data=encoded(image))) == (pixels == 255)).all()


def test_grey_stays_grey_and_transparent_is_outside() -> None:
    assert load_mask(given_mask(GREY)) == pytest.approx(GREY / 255)
    seen = Image.merge("LA", (Image.fromarray(GREY), Image.new("L", (6, 4), 51)))
    assert load_mask(given_mask(seen)) == pytest.approx(GREY / 255 * 0.2)
    keyed = ImageRef(data=file_of(Image.fromarray(GREY), transparency=230))
    assert load_mask(keyed)[3, 5] == 0
    assert load_mask(keyed)[3, 4] > 0


@pytest.mark.parametrize(
    "array",
    [GREY, GREY > 50, GREY.astype(np.uint16) * 250, GREY / 255, (GREY / 255).astype(np.float32), GREY[:, ::2]],
)
def test_masks_from_arrays(array) -> None:
    scale = {"bool": 1, "uint8": 255, "uint16": 65535}.get(array.dtype.name, 1)
    assert load_mask(given_mask(array)) == pytest.approx(array.astype(np.float64) / scale, abs=1 / 65535)


@pytest.mark.parametrize(
    "array",
    [
        GREY.astype(np.int64),
        GREY.astype(np.float32),
        np.array([[np.nan]]),
        np.zeros((2, 2, 3), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_arrays_that_are_no_masks(array) -> None:
    with pytest.raises(ImageError, match="array"):
        given_mask(array)


def test_embedding_a_mask_keeps_its_values() -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    for picture in (given_mask(GREY / 255), given_mask(Image.fromarray(rgba)), ImageRef(data=DAMAGED_FREE_JPEG)):
        again = ImageRef(data=encoded(mask_image(picture)))
        assert (load_mask(again) == load_mask(picture)).all()
        assert (mask_values(mask_image(picture)) == load_mask(picture)).all()


DAMAGED_FREE_JPEG = file_of(Image.effect_noise((16, 16), 60).convert("RGB"), "JPEG")


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
def test_backgrounds_from_arrays(shape) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    pixels = np.asarray(opened(given_background(array), "background"))
    assert (pixels.reshape(shape) == array).all()
    with pytest.raises(ImageError, match=r"values from \d+ to \d+; scale floats to 0 to 1, or give uint8"):
        given_background(array.astype(np.float32))


def test_an_image_in_memory_preserves_profile_and_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.open(io.BytesIO(file_of(Image.new("RGB", (4, 6)), "JPEG", exif=exif, icc_profile=b"profile")))
    image = opened(given_background(photo), "background")
    assert image.info["icc_profile"] == b"profile"
    assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_data_uris_name_their_kind(kind) -> None:
    data = file_of(Image.new("L", (4, 4)), kind)
    uri = data_uri(data)
    assert uri.startswith(f"data:image/{kind.lower()};base64,")
    assert given_mask(uri) == ImageRef(data=data)


@pytest.mark.parametrize(
    "value",
    [
        "",
        3,
        None,
        {},
        {"path": 3},
        {"path": "a", "size": 3},
        "data:text/plain;base64,AAAA",
        "data:image/png;base64,A",
        "https://example.org/a.png",
        Image.new("F", (2, 2)),
    ],
)
def test_invalid_images_are_refused(value) -> None:
    with pytest.raises(ImageError):
        given_background(value)
