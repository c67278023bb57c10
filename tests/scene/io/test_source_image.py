import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cloisonne.errors import ImageError
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.source_image import MODES, Source, difference_outside

FORMS = [*MODES, "P with alpha", "P with a transparent index", "RGB keyed", "L keyed", "1 keyed", "I;16 keyed"]
"""Modes, and the ways in which a mode without alpha can have transparent pixels."""

forms = pytest.mark.parametrize("form", FORMS)


def stored(form: str, size: tuple[int, int], orientation: int, seed: int) -> bytes:
    """A PNG of noise in one of FORMS with a profile and an orientation."""
    rng = np.random.default_rng(seed)
    mode, _, extra = form.partition(" ")
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, size[::-1], np.uint16))
    elif mode == "P":
        image = Image.frombytes("P", size, rng.integers(0, 17, size[::-1], np.uint8).tobytes())
        image.putpalette(rng.integers(0, 256, 17 * 3, np.uint8).tolist())
    else:
        channels = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
        pixels = rng.integers(0, 256, (*size[::-1], channels), np.uint8)
        image = Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).convert(mode)
    options: dict[str, object] = {
        "with alpha": {"transparency": bytes(rng.integers(0, 256, 17, np.uint8))},
        "with a transparent index": {"transparency": 3},
        "keyed": {"transparency": (1, 2, 3) if mode == "RGB" else 1},
    }.get(extra, {})
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", icc_profile=b"profile", exif=exif, **options)
    return file.getvalue()


def saved(image: Image.Image) -> Image.Image:
    """``image`` as it is read from the PNG that its pixels and metadata make."""
    file = io.BytesIO()
    image.save(file, "PNG", **image.info)
    return Image.open(io.BytesIO(file.getvalue()))


def alpha_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGBA"))[..., 3]


@forms
@settings(max_examples=20)
@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    orientation=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
    hard=st.booleans(),
)
def test_outside_the_mask_every_value_stays(form, size, orientation, seed, hard) -> None:
    data = stored(form, size, orientation, seed)
    before, source = Image.open(io.BytesIO(data)), Source.load(ImageRef(data=data))
    rng = np.random.default_rng(seed)
    mask = (rng.random((source.height, source.width)) * (rng.random((source.height, source.width)) < 0.5)).astype("f4")
    mask = (mask > 0).astype(np.float32) if hard else mask
    painted = rng.integers(0, 256, source.rgb.shape, np.uint8)

    after = saved(source.pasted(painted, mask))

    assert (after.mode, after.size) == (before.mode, before.size)
    assert after.info["icc_profile"] == b"profile"
    assert after.getexif()[0x0112] == orientation
    assert after.getpalette() == before.getpalette()
    assert (alpha_of(after) == alpha_of(before)).all()
    assert difference_outside(before, after, mask) == 0
    again = Source.load(ImageRef(data=_bytes(after)))
    assert (np.asarray(again.upright)[mask == 0] == np.asarray(source.upright)[mask == 0]).all()


def _bytes(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **{name: image.info[name] for name in ("exif", "transparency") if name in image.info})
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_inside_a_hard_mask_is_what_was_painted(mode) -> None:
    source = Source.load(ImageRef(data=stored(mode, (9, 7), 6, 1)))
    painted = np.random.default_rng(2).integers(0, 256, source.rgb.shape, np.uint8)
    mask = np.zeros(source.rgb.shape[:2], np.float32)
    mask[2:5, 1:4] = 1
    again = Source.load(ImageRef(data=_bytes(saved(source.pasted(painted, mask)))))
    assert (again.rgb[mask == 1] == painted[mask == 1]).all()


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_colours_become_greys(mode) -> None:
    source = Source.load(ImageRef(data=stored(mode, (9, 7), 1, 1)))
    painted = np.random.default_rng(2).integers(0, 256, source.rgb.shape, np.uint8)
    again = Source.load(ImageRef(data=_bytes(source.pasted(painted, np.ones(source.rgb.shape[:2], np.float32)))))
    grey = np.asarray(Image.fromarray(painted).convert("L"))
    assert np.abs(again.rgb.astype(int) - grey[..., None]).max() <= 1


def test_colours_become_the_palettes_nearest() -> None:
    source = Source.load(ImageRef(data=stored("P", (9, 7), 1, 1)))
    painted = np.random.default_rng(2).integers(0, 256, source.rgb.shape, np.uint8)
    again = Source.load(ImageRef(data=_bytes(source.pasted(painted, np.ones((7, 9), np.float32)))))
    palette = np.array(source.upright.getpalette("RGB")).reshape(-1, 3)
    distance = np.square(painted[:, :, None].astype(int) - palette).sum(axis=3)
    assert (np.square(again.rgb.astype(int) - painted).sum(axis=2) == distance.min(axis=2)).all()


def test_black_and_white_is_a_threshold() -> None:
    source = Source.load(ImageRef(data=stored("1", (9, 7), 1, 1)))
    painted = np.full(source.rgb.shape, 129, np.uint8)
    after = source.pasted(painted, np.ones((7, 9), np.float32))
    assert np.asarray(after).all()


def test_grey_masks_blend() -> None:
    black = ImageRef(data=_bytes(Image.new("RGB", (3, 1))))
    mask = np.array([[0, 0.25, 1]], np.float32)
    after = Source.load(black).pasted(np.full((1, 3, 3), 200, np.uint8), mask)
    assert np.asarray(after)[0, :, 0].tolist() == [0, 50, 200]


@forms
def test_nothing_painted_is_nothing_changed(form) -> None:
    data = stored(form, (9, 7), 5, 3)
    source = Source.load(ImageRef(data=data))
    nothing = np.zeros(source.rgb.shape[:2], np.float32)
    after = source.pasted(255 - source.rgb, nothing)
    assert (np.asarray(after) == np.asarray(Image.open(io.BytesIO(data)))).all()


def test_difference_outside_sees_a_single_value() -> None:
    before = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 0, 2], pixels[3, 3] = 7, 255
    mask = np.zeros((4, 4), np.float32)
    mask[3, 3] = 0.01
    assert difference_outside(before, Image.fromarray(pixels), mask) == 7
    assert difference_outside(before, Image.fromarray(pixels), np.ones((4, 4), np.float32)) == 0


def test_a_picture_that_could_not_be_written_back_is_refused() -> None:
    file = io.BytesIO()
    Image.new("CMYK", (4, 4)).save(file, "JPEG")
    with pytest.raises(ImageError, match=r"The background .* has the mode CMYK; convert it to RGB first\."):
        Source.load(ImageRef(data=file.getvalue()))


def test_a_source_shows_its_picture_upright() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    source = Source.load(ImageRef(data=file.getvalue()))
    assert (source.height, source.width) == (3, 2)
    assert (source.rgb == np.rot90(pixels, -1)).all()
