"""Masks as real programs write them: the region, the outside, and the notes about both."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cloisonne.errors import SceneError
from cloisonne.scene import Record, Region, Scene, self_contained
from cloisonne.scene.changes import with_changes
from cloisonne.scene.io.image_ref import ImageRef, encoded, given_mask
from cloisonne.scene.io.images import load_mask
from cloisonne.scene.io.png_record import read_record
from cloisonne.scene.shapes.mask_reading import NEARLY_BLACK, ReadMask, read_mask
from cloisonne.world.draw import draw
from cloisonne.world.picture import sample

HOLE = np.zeros((48, 64), bool)
HOLE[10:30, 20:50] = True
GREYS = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, 256, (12, 9), np.uint8))


def read(image: Image.Image, channel: str = "auto") -> ReadMask:
    return read_mask(ImageRef(data=encoded(image)), "sky", channel)  # pyright: ignore[reportArgumentType]


def brush(colour: tuple[int, int, int], ground: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """The hole in one colour, opaque."""
    return Image.fromarray(np.where(HOLE[..., None], np.array(colour, np.uint8), np.array(ground, np.uint8)))


def strokes(colour: tuple[int, int, int]) -> Image.Image:
    """The hole in one colour on a transparent background."""
    pixels = np.zeros((*HOLE.shape, 4), np.uint8)
    pixels[HOLE] = (*colour, 255)
    return Image.fromarray(pixels)


def photo(seed: int = 3) -> NDArray[np.uint8]:
    """A drawn picture with the noise of a camera."""
    drawn = draw(sample(seed), 64, 48).rgb.astype(int)
    return (drawn + np.random.default_rng(seed).integers(-12, 13, drawn.shape)).clip(0, 255).astype(np.uint8)


def texture(seed: int) -> NDArray[np.uint8]:
    """Smooth greys that go up and down all over."""
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 32), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).convert("RGB"))


def with_hole(rgb: NDArray[np.uint8]) -> Image.Image:
    """A picture that is transparent in the hole."""
    return Image.fromarray(np.dstack([rgb, np.where(HOLE, 0, 255).astype(np.uint8)]))


def soft() -> NDArray[np.uint8]:
    """A white hole with a soft edge, whose tail falls to 1 of 255."""
    hard = Image.fromarray(HOLE.astype(np.uint8) * 255)
    grey = np.array(hard.filter(ImageFilter.GaussianBlur(3)))
    grey[18:22, 30:40] = 255
    assert set(range(1, 9)) <= set(np.unique(grey).tolist())
    return grey


def palette() -> Image.Image:
    """VOC's way to write classes: the first colour of a palette is (128, 0, 0)."""
    image = Image.fromarray(HOLE.astype(np.uint8), "L").convert("P")
    image.frombytes(HOLE.astype(np.uint8).tobytes())
    image.putpalette([0, 0, 0, 128, 0, 0])
    return image


STRETCHED = {
    "labels 0 and 1": Image.fromarray(HOLE.astype(np.uint8)),
    "labels 0 and 3 of 16 bits": Image.fromarray(HOLE.astype(np.uint16) * 3),
    "8 bits in 16": Image.fromarray(HOLE.astype(np.uint16) * 255),
    "palette": palette(),
    "red brush": brush((255, 0, 0)),
    "blue brush": brush((0, 0, 255)),
    "yellow brush": brush((255, 255, 0)),
    "grey": Image.fromarray(HOLE.astype(np.uint8) * 128),
}


@pytest.mark.parametrize("image", STRETCHED.values(), ids=STRETCHED)
def test_the_brightest_value_is_white(image: Image.Image) -> None:
    found = read(image)
    assert (found.values == HOLE).all()
    (note,) = found.notes
    assert "is taken as white" in note
    assert (read(image, "luminance").values < 1).all()


@pytest.mark.parametrize("array", [HOLE / 4, (HOLE / 4).astype(np.float32), HOLE.astype(np.uint16) * 20_000])
def test_a_scale_of_16_bits_or_of_floats_is_trusted(array: NDArray[np.generic]) -> None:
    picture = given_mask(array)
    assert read_mask(picture).notes == ()
    assert (read_mask(picture).values == load_mask(picture)).all()


@given(GREYS, st.integers(1, 239))
def test_stretching_keeps_the_proportions(grey: NDArray[np.uint8], brightest: int) -> None:
    dim = np.rint(grey / 255 * brightest).astype(np.uint8)
    dim[0, 0] = brightest
    values = read_mask(given_mask(dim)).values
    assert values.max() == 1
    wanted = dim / brightest
    assert np.abs(values - wanted)[wanted > 2 * NEARLY_BLACK / 255].max(initial=0) <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("level", [1, 2, NEARLY_BLACK])
@pytest.mark.parametrize("noise", [0, 1])
def test_a_nearly_black_background_is_outside(level: int, noise: int) -> None:
    ground = np.random.default_rng(0).integers(max(level - noise, 0), level + 1, HOLE.shape)
    found = read(Image.fromarray(np.where(HOLE, 255, ground).astype(np.uint8)))
    assert (found.values == HOLE).all()
    (note,) = found.notes
    assert "nearly black background" in note


@pytest.mark.parametrize("level", [1, NEARLY_BLACK])
def test_nearly_black_specks_are_outside(level: int) -> None:
    grey = soft()
    dusty = grey.copy()
    dusty[0, 0] = dusty[46:, 62:] = level
    found = read(Image.fromarray(dusty))
    assert (found.values == grey.astype(np.float32) / np.float32(255)).all()
    (note,) = found.notes
    assert note.startswith("has 2 specks")


def test_soft_edges_and_gradients_stay_as_they_are() -> None:
    x, y = np.meshgrid(np.linspace(0, 255, 640), np.linspace(0, 255, 480))
    for grey in (soft(), x, y, np.hypot(x, y).clip(0, 255), 255 * np.exp(-((x / 255 - 0.5) ** 2) * 18)):
        picture = given_mask(grey.astype(np.uint8))
        assert read_mask(picture).notes == ()
        assert (read_mask(picture).values == load_mask(picture)).all()


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_jpeg_of_a_mask_has_no_window_of_its_noise(quality: int) -> None:
    file = io.BytesIO()
    Image.fromarray(HOLE.astype(np.uint8) * 255).resize((640, 480)).save(file, "JPEG", quality=quality)
    values = read_mask(ImageRef(data=file.getvalue())).values
    rows, columns = np.nonzero(values)
    assert rows.min() >= 100 - 16
    assert rows.max() <= 300 + 16
    assert columns.min() >= 200 - 16
    assert columns.max() <= 500 + 16


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 0, 0), (128, 128, 128), (255, 255, 255)])
def test_strokes_on_a_transparent_background_are_the_region(colour: tuple[int, int, int]) -> None:
    found = read(strokes(colour))
    assert (found.values == HOLE).all()
    assert ["alpha" in note for note in found.notes] == ([] if colour == (255, 255, 255) else [True])


def test_strokes_in_several_colours_are_the_region() -> None:
    pixels = np.array(strokes((255, 0, 0)))
    pixels[10:15, 20:50, :3] = (0, 90, 255)
    assert (read(Image.fromarray(pixels)).values == HOLE).all()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("grey", [False, True])
def test_the_hole_of_an_image_is_the_region(seed: int, grey: bool) -> None:
    found = read(with_hole(texture(seed) if grey else photo(seed)))
    assert (found.values == HOLE).all()
    (note,) = found.notes
    assert "alpha" in note


@given(st.integers(0, 2**32 - 1))
def test_channels_are_taken_as_they_are(seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 4), np.uint8)
    picture = ImageRef(data=encoded(Image.fromarray(pixels)))
    alpha = pixels[..., 3] / 255
    grey = np.asarray(Image.fromarray(pixels).convert("RGB").convert("L")) / 255
    for channel, wanted in [("alpha", alpha), ("transparency", 1 - alpha), ("luminance", grey * alpha)]:
        found = read_mask(picture, None, channel)  # pyright: ignore[reportArgumentType]
        assert found.values == pytest.approx(wanted, abs=1e-6)
        assert found.notes == ()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("grey", [False, True])
def test_a_photograph_is_no_mask(seed: int, grey: bool) -> None:
    found = read(Image.fromarray(texture(seed)).convert("L") if grey else Image.fromarray(photo(seed)))
    assert any("paint the region white on black" in note for note in found.notes)


@pytest.mark.parametrize("image", [brush((255, 255, 255)), Image.fromarray(soft()), brush((255, 0, 0))])
def test_a_mask_is_no_photograph(image: Image.Image) -> None:
    assert not any("paint" in note for note in read(image).notes)


def test_several_colours_are_no_mask() -> None:
    pixels = np.array(brush((255, 255, 255)))
    pixels[35:45, 5:20] = (0, 200, 40)
    pixels[35:45, 25:40] = (220, 30, 40)
    for image in (Image.fromarray(pixels), brush((255, 0, 0), (255, 255, 255))):
        assert any("several colours" in note for note in read(image).notes)


def test_an_empty_channel_names_the_other() -> None:
    region = Region(name="sky", phrase="stars", mask=strokes((0, 0, 0)), mask_channel="luminance")
    with pytest.raises(SceneError, match=r'Region "sky": The mask .* give the mask channel "alpha"'):
        region.soft_mask(48, 64)


def test_a_channel_needs_a_mask() -> None:
    with pytest.raises(SceneError, match='"alpha", but the region has no mask'):
        Region(phrase="stars", box=(0, 0, 1, 1), mask_channel="alpha")
    with pytest.raises(SceneError, match="mask_channel"):
        Region(phrase="stars", mask=HOLE, mask_channel="red")


@pytest.mark.parametrize(
    "image",
    [*STRETCHED.values(), strokes((0, 0, 0)), strokes((250, 9, 9)), with_hole(photo()), Image.fromarray(soft())],
)
@pytest.mark.parametrize("channel", ["auto", "luminance"])
def test_a_picture_s_record_reads_its_mask_in_the_same_way(image: Image.Image, channel: str, tmp_path: Path) -> None:
    mask = ImageRef(data=encoded(image))
    scene = Scene(regions=[Region(name="sky", phrase="stars", mask=mask, mask_channel=channel)])
    try:
        before = scene.regions[0].soft_mask(48, 64)
    except SceneError:
        return
    again = Scene.from_dict(Record(scene=self_contained(scene.to_dict(complete=True), tmp_path)).scene)
    assert (again.regions[0].soft_mask(48, 64) == before).all()
    assert again.regions[0].read_mask().notes == ()


def test_a_record_from_before_channels_reads_its_mask_as_it_did() -> None:
    from PIL import PngImagePlugin

    dim = ImageRef(data=encoded(Image.fromarray(HOLE.astype(np.uint8) * 90)))
    expected = {"version": 1, "regions": [{"name": "sky", "phrase": "stars", "mask": dim.wire()}]}
    info = PngImagePlugin.PngInfo()
    info.add_text("cloisonne", json.dumps({"version": 1, "scene": expected}))
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    scene = Scene.from_dict(read_record(file.getvalue(), "old.png").scene)
    assert (scene.regions[0].soft_mask(48, 64) == load_mask(dim)).all()


def test_a_new_mask_resets_the_mask_channel() -> None:
    old = Region(name="sky", phrase="stars", mask=strokes((0, 0, 0)), mask_channel="alpha")
    scene = Scene(regions=[old])
    assert with_changes(scene, {"sky.mask": HOLE.astype(np.uint8)}).regions[0].mask_channel == "auto"
    assert with_changes(scene, {"sky.mask": None, "sky.box": [0, 0, 1, 1]}).regions[0].box == (0, 0, 1, 1)
    assert with_changes(scene, {"sky.mask_channel": "transparency"}).regions[0].mask_channel == "transparency"
