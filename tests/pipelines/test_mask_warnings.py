"""Warnings about masks and control maps that do not fit, on every way to a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import cloisonne as cl
from cloisonne.models.model import Model
from cloisonne.pipelines.control_warnings import control_warnings
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import BackgroundEdit
from cloisonne.pipelines.mask_warnings import misfit
from cloisonne.scene.io.image_ref import ImageRef, encoded
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

SIZE = (96, 64)
HOLE = np.zeros((64, 96), bool)
HOLE[8:28, 12:36] = True
PHOTO = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
PLAIN = HOLE.astype(np.uint8) * 255


def scene_of(mask: Any, background: Any = PHOTO, **fields: Any) -> Scene:
    region = Region(name="pet", mask=mask, phrase="a cat", **fields)
    return Scene(background=background, regions=(region,), seed=1, steps=1)


def with_pixels(value: int, *pixels: tuple[int, int]) -> NDArray[np.uint8]:
    mask = PLAIN.copy()
    for at in pixels:
        mask[at] = value
    return mask


def with_ground(level: int) -> NDArray[np.uint8]:
    return np.where(HOLE, 255, level).astype(np.uint8)


def own_picture() -> bytes:
    """The photograph with a hole."""
    return encoded(Image.fromarray(np.dstack([PHOTO, np.where(HOLE, 0, 255).astype(np.uint8)])))


@pytest.mark.parametrize(
    "mask",
    [with_ground(1), with_ground(2), with_ground(8), with_pixels(1, (63, 95)), with_pixels(8, (0, 95), (63, 0))],
)
def test_a_ground_or_dust_is_outside(tiny: Model, mask: NDArray[np.uint8]) -> None:
    """The window, the bytes outside and all that changes are those of the clean mask."""
    clean = BackgroundEdit.of(scene_of(PLAIN))
    assert BackgroundEdit.of(scene_of(mask)).window == clean.window
    result = generate(scene_of(mask), tiny)
    pixels = np.asarray(result.image)
    assert np.array_equal(pixels[~HOLE], PHOTO[~HOLE])
    assert result.report["identical_outside"] is True
    assert np.array_equal(pixels, np.asarray(generate(scene_of(PLAIN), tiny).image))
    (warning,) = result.report["warnings"]
    assert warning.startswith('Region "pet": its mask <')
    assert "black" in warning


@pytest.mark.parametrize("times", [1, 3])
def test_a_bright_speck_far_off_is_named(tiny: Model, times: int) -> None:
    """Also where the mask is enlarged, and the speck with it."""
    photo = np.asarray(Image.fromarray(PHOTO).resize((96 * times, 64 * times)))
    warnings = generate(scene_of(with_pixels(255, (63, 95)), photo), tiny).report["warnings"]
    (warning,) = [one for one in warnings if "speck" in one]
    assert "1 speck apart from the rest" in warning
    assert f"{36 * times} x {36 * times}" in warning
    assert generate(scene_of(with_pixels(255, (30, 36))), tiny).report["warnings"] == []


@pytest.mark.parametrize(
    "mask", [HOLE.astype(np.uint8), Image.fromarray(np.where(HOLE[..., None], (255, 0, 0), 0).astype(np.uint8))]
)
def test_a_dim_mask_draws_what_a_white_one_draws(tiny: Model, mask: Any) -> None:
    result = generate(scene_of(mask), tiny)
    assert np.array_equal(np.asarray(result.image), np.asarray(generate(scene_of(PLAIN), tiny).image))
    (warning,) = result.report["warnings"]
    assert "taken as white" in warning


def test_a_picture_as_its_own_mask_repaints_its_hole(tiny: Model) -> None:
    own = ImageRef(data=own_picture())
    result = generate(scene_of(own, own), tiny)
    before = np.dstack([PHOTO, np.where(HOLE, 0, 255)])
    after = np.asarray(result.image)
    assert np.array_equal(after[~HOLE], before[~HOLE])
    assert not np.array_equal(after[HOLE], before[HOLE])
    (warning,) = result.report["warnings"]
    assert "transparent parts: they are the region" in warning
    for channel, expected in [("transparency", 0), ("alpha", 1)]:
        named = generate(scene_of(own, own, mask_channel=channel), tiny).report["warnings"]
        assert sum("the background itself" in warning for warning in named) == expected


def test_a_flat_picture_as_its_own_mask_names_its_alpha(tiny: Model) -> None:
    """One colour and a hole may be strokes on a clear ground as well."""
    flat = np.full((64, 96, 4), (30, 90, 200, 255), np.uint8)
    flat[HOLE, 3] = 0
    own = ImageRef(data=encoded(Image.fromarray(flat)))
    warnings = generate(scene_of(own, own), tiny).report["warnings"]
    assert any("the background itself; if its transparent area" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("own", "whole", "given", "expected"),
    [
        ((96, 64), (96, 64), True, ""),
        ((96, 64), (192, 128), True, "resized"),
        ((96, 64), (192, 128), False, ""),
        ((95, 64), (192, 128), False, ""),
        ((64, 64), (96, 64), True, "another aspect ratio"),
        ((64, 64), (96, 64), False, "another aspect ratio"),
        ((1000, 650), (96, 64), True, "another aspect ratio"),
        ((1000, 667), (96, 64), True, "resized"),
    ],
)
def test_sizes_that_do_not_fit(own: tuple[int, int], whole: tuple[int, int], given: bool, expected: str) -> None:
    sentence = misfit(own, whole, given=given)
    assert expected in sentence
    assert bool(sentence) == bool(expected)
    assert not expected or all(str(side) in sentence for side in (*own, *whole))


@pytest.mark.parametrize("size", [(64, 64), (192, 128)])
def test_a_mask_of_another_size_is_warned_of(tiny: Model, size: tuple[int, int]) -> None:
    mask = np.asarray(Image.fromarray(PLAIN).resize(size, Image.Resampling.NEAREST))
    (warning,) = generate(scene_of(mask), tiny).report["warnings"]
    assert f"{size[0]} x {size[1]} pixels and the image 96 x 64" in warning
    drawn = Scene(regions=(Region(name="pet", mask=mask, phrase="a cat"),), seed=1, steps=1, width=96, height=64)
    warnings = [warning for warning in generate(drawn, tiny).report["warnings"] if "mask" in warning]
    assert len(warnings) == (size == (64, 64))


@pytest.mark.parametrize("photo", [PHOTO, np.asarray(Image.fromarray(PHOTO).convert("L"))])
def test_a_photograph_as_a_mask_is_warned_of(tiny: Model, photo: NDArray[np.uint8]) -> None:
    image = Image.fromarray(photo)
    warnings = generate(scene_of(image), tiny).report["warnings"]
    assert any("white on black" in warning for warning in warnings)


def test_explain_and_edit_warn_too(tiny: Model) -> None:
    scene = scene_of(with_ground(2))
    assert any("nearly black background" in warning for warning in cl.explain(scene, tiny).warnings)
    edited = Region(name="pet", mask=with_ground(2), edit={"kind": "change", "from": "a cat", "to": "a dog"})
    report = cl.edit(scene.replace(regions=(edited,)), tiny).report
    assert sum("nearly black background" in warning for warning in report["warnings"]) == 1
    assert report["identical_outside"] is True


def test_the_picture_draws_itself_again(tiny: Model, tmp_path: Path) -> None:
    """From the mask in the PNG, which is the mask as it was read."""
    first = generate(scene_of(with_ground(2) // 3), tiny)
    first.save(tmp_path / "a.png")
    again = generate(Scene.from_png(tmp_path / "a.png"), tiny)
    again.save(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Scene.from_png(tmp_path / "a.png").regions[0].mask_channel == "luminance"


def test_the_mask_of_outside_is_read_in_the_same_way(tiny: Model, tmp_path: Path) -> None:
    shape = Region(name="pet", box=(0.0, 0.0, 0.2, 0.2), phrase="a cat")
    outside = {"image": PHOTO, "mask": np.where(HOLE, 90, 1).astype(np.uint8)}
    drawn = Scene(regions=(shape,), seed=1, steps=1, width=96, height=64, outside=outside)
    result = generate(drawn, tiny)
    pixels = np.asarray(result.image)
    assert np.array_equal(pixels[~HOLE], PHOTO[~HOLE])
    clean = generate(drawn.replace(outside={"image": PHOTO, "mask": PLAIN}), tiny)
    assert np.array_equal(pixels, np.asarray(clean.image))
    assert sum(warning.startswith("The mask <") for warning in result.report["warnings"]) == 2
    result.save(tmp_path / "a.png")
    again = generate(Scene.from_png(tmp_path / "a.png"), tiny)
    assert np.array_equal(pixels, np.asarray(again.image))


@pytest.mark.parametrize("field", ["image", "from"])
@pytest.mark.parametrize(
    ("size", "of_picture", "of_canvas"),
    [((96, 64), "", ""), ((192, 128), "resized", ""), ((99, 64), "another aspect ratio", "another aspect ratio")],
)
def test_a_control_s_picture_of_another_size_is_warned_of(
    field: str, size: tuple[int, int], of_picture: str, of_canvas: str
) -> None:
    lines = np.zeros((size[1], size[0], 3), np.uint8)
    region = Region(name="pet", box=(0.1, 0.1, 0.5, 0.5), control={"kind": "canny", field: lines})
    given = Scene(background=PHOTO, regions=(region,), width=96, height=64)
    for scene, edit, expected in [
        (given, BackgroundEdit.of(given), of_picture),
        (given.replace(background=None), None, of_canvas),
    ]:
        warnings = list(control_warnings(scene, edit))
        assert len(warnings) == bool(expected)
        assert all(expected in one and f"{size[0]} x {size[1]}" in one and "96 x 64" in one for one in warnings)
