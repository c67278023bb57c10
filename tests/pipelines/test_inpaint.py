"""Given pictures: what comes back is the picture, byte for byte, but for the regions."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from methods_of import OF_UNETS
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cloisonne.errors import SceneError
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import BackgroundEdit, as_pixels, as_tensor, start
from cloisonne.pipelines.outside import OutsideImage
from cloisonne.pipelines.prepare import prepare, size_of
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.masks import seamed

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
PROFILE = b"any bytes of a profile"


def picture(mode: str, width: int, height: int, seed: int, orientation: int = 1) -> bytes:
    """A PNG of random values in its own mode, with a profile and an orientation."""
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (height, width), np.uint16))
    elif mode == "1":
        image = Image.fromarray(rng.integers(0, 2, (height, width)).astype(bool))
    elif mode == "P":
        image = Image.fromarray(rng.integers(0, 20, (height, width), np.uint8))
        image.putpalette(rng.integers(0, 256, 60, np.uint8).tobytes())
    else:
        values = rng.integers(0, 256, (height, width, len(mode)), np.uint8)
        image = Image.fromarray(values[..., 0] if mode == "L" else values)
        assert image.mode == mode
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif, icc_profile=PROFILE)
    return file.getvalue()


def stored(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def upright(image: Image.Image, orientation: int) -> np.ndarray:
    """Values as they are meant to be seen, by the letter of the EXIF standard: where row 0 and column 0 are."""
    values = np.asarray(image)
    values = np.moveaxis(values, 0, 1) if orientation >= 5 else values
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, object]:
    """What makes a region: shapes of all kinds and sizes, hard and soft."""
    xs, ys = (sorted(draw(st.lists(st.integers(0, 50), min_size=2, max_size=2, unique=True))) for _ in range(2))
    x0, y0, x1, y1 = box = (xs[0] / 50, ys[0] / 50, xs[1] / 50, ys[1] / 50)
    grey = np.random.default_rng(draw(st.integers(0, 99))).choice([0.0, 0.0, 0.3, 1.0], (5, 7))
    grey[2, 3] = 1.0
    kinds = [
        {"box": box},
        {"ellipse": box},
        {"polygon": [(x0, y0), (x1, y0), (x1, y1)]},
        {"mask": grey},
        {"rle": {"size": [4, 3], "counts": [2, 3, 4, 3]}},
    ]
    return {**draw(st.sampled_from(kinds)), "feather": draw(st.sampled_from([0.0, 0.1, 0.5]))}


def edit_of(background: object, given_shapes: list[dict[str, object]]) -> BackgroundEdit:
    """The edit of these regions; cases in which one of them is smaller than a pixel are left out."""
    regions = [Region(phrase="a cat", **shape) for shape in given_shapes]
    try:
        return BackgroundEdit.of(Scene(background=background, regions=regions))
    except SceneError as error:
        if "covers no pixel" not in str(error):
            raise
        reject()


@settings(max_examples=400)
@given(
    mode=st.sampled_from(MODES),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    orientation=st.integers(1, 8),
    given_shapes=st.lists(shapes(), min_size=1, max_size=3),
    seed=st.integers(0, 1000),
)
def test_outside_of_the_regions_every_value_stays(
    tiny: Model, mode: str, size: tuple[int, int], orientation: int, given_shapes: list[dict[str, object]], seed: int
) -> None:
    """Whatever is painted on the canvas: here noise, as bright and as wrong as it gets."""
    data = picture(mode, *size, seed, orientation)
    edit = edit_of(ImageRef(data=data), given_shapes)
    covered = edit.covered()
    width, height = edit.canvas(tiny)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    result, source = edit.pasted(noise, covered), stored(data)

    assert (result.size, result.mode) == (source.size, source.mode)
    assert result.info["icc_profile"] == PROFILE
    assert result.getexif().get(0x0112) == orientation
    assert result.getpalette() == source.getpalette()
    before, after = upright(source, orientation), upright(result, orientation)
    outside = covered == 0
    assert np.array_equal(before[outside], after[outside])
    if mode in ("LA", "RGBA"):
        assert np.array_equal(before[..., -1], after[..., -1])
    assert edit.difference_outside(result, covered) == 0


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    given_shapes=st.lists(shapes(), min_size=1, max_size=3),
)
def test_window_holds_all_regions_and_half_as_much_around(
    tiny: Model, size: tuple[int, int], given_shapes: list[dict[str, object]]
) -> None:
    edit = edit_of(np.zeros((size[1], size[0], 3), np.uint8), given_shapes)
    covered, window = edit.covered(), edit.window
    inside = np.zeros(covered.shape, bool)
    inside[window.slices] = True
    assert not covered[~inside].any()
    rows, columns = np.nonzero(covered.any(axis=1))[0], np.nonzero(covered.any(axis=0))[0]
    longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    assert (window.width, window.height) == tuple(min(side, math.ceil(longest * 1.5)) for side in size)
    for side in edit.canvas(tiny):
        assert side % 8 == 0
        assert 64 <= side <= 4096


def test_difference_outside_is_seen() -> None:
    source = np.full((20, 20, 3), 100, np.uint8)
    edit = BackgroundEdit.of(Scene(background=source, regions=(Region(box=(0.0, 0.0, 0.5, 0.5), phrase="a cat"),)))
    changed = source.copy()
    changed[15, 15, 1] = 93
    changed[2, 2] = 0
    assert edit.difference_outside(Image.fromarray(changed), edit.covered()) == 7


def test_inside_of_a_hard_mask_is_what_was_painted(tiny: Model) -> None:
    source = np.full((60, 80, 3), 200, np.uint8)
    edit = BackgroundEdit.of(Scene(background=source, regions=(Region(box=(0.5, 0.5, 0.75, 0.75), phrase="a cat"),)))
    painted = np.full((64, 64, 3), 7, np.uint8)
    result = np.asarray(edit.pasted(painted, edit.covered()))
    assert (result[30:45, 40:60] == 7).all()
    assert (result == 7).all(axis=2).sum() == 15 * 20


def test_another_shade_inside_of_a_hard_mask_meets_the_source() -> None:
    source = np.full((60, 80, 3), 100, np.uint8)
    edit = BackgroundEdit.of(Scene(background=source, regions=(Region(box=(0.25, 0.25, 0.75, 0.75), phrase="a cat"),)))
    result = np.asarray(edit.pasted(np.full((64, 64, 3), 120, np.uint8), edit.covered())).astype(int)
    assert np.abs(np.diff(result, axis=1)).max() < 8
    assert result[30, 40, 0] > 115


def test_feather_blends_inwards(tiny: Model) -> None:
    source = np.full((64, 64, 3), 100, np.uint8)
    region = Region(box=(0.25, 0.25, 0.75, 0.75), phrase="a cat", feather=0.5)
    edit = BackgroundEdit.of(Scene(background=source, regions=(region,)))
    result = np.asarray(edit.pasted(np.full((64, 64, 3), 200, np.uint8), edit.covered()))[..., 0]
    middle = result[32]
    assert (middle[:16] == 100).all()
    assert 100 < middle[16] < middle[20] < middle[24] < middle[31]
    assert (middle[48:] == 100).all()


@pytest.mark.parametrize("grey", [64, 128, 255])
def test_grey_acts_once(tiny: Model, grey: int) -> None:
    """Only latents that no region touches are pinned while sampling; grey mask values apply in the final composite."""
    source = np.zeros((64, 64, 3), np.uint8)
    mask = np.zeros((64, 64))
    mask[:, :32] = grey / 255
    edit = BackgroundEdit.of(Scene(background=source, regions=(Region(mask=mask, phrase="a cat"),)))
    pin = edit.pin(tiny, (64, 64), edit.covered())
    assert pin.mask[:, :4].eq(1).all()
    assert pin.mask[:, 4:].eq(0).all()
    white = np.asarray(edit.pasted(np.full((64, 64, 3), 255, np.uint8), edit.covered()))
    assert abs(int(white[32, 8, 0]) - grey) <= 1


def test_regions_lie_where_they_lie_in_the_window(tiny: Model) -> None:
    """A region's mask and box on the canvas are those of the window, not of the picture."""
    source = np.zeros((200, 300, 3), np.uint8)
    region = Region(name="pet", box=(0.5, 0.5, 0.7, 0.7), phrase="a cat")
    edit = BackgroundEdit.of(Scene(background=source, regions=(region,)))
    assert edit.window == (135, 75, 225, 165)
    (placed,) = edit.placed(Scene(background=source, regions=(region,)), (6, 6))
    assert placed.box == pytest.approx((15 / 90, 25 / 90, 75 / 90, 65 / 90))
    rows, columns = np.array([0, 1 / 3, 1, 1, 1 / 3, 0]), np.array([0, 1, 1, 1, 1, 0])
    np.testing.assert_allclose(placed.mask, rows[:, None] * columns[None], atol=1e-6)


def test_latents_under_a_hard_mask_are_free_and_others_are_held(tiny: Model) -> None:
    """Also where the mask covers but a corner of a latent pixel: nothing old may remain inside."""
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    region = Region(box=(0.0, 0.0, 0.51, 1.0), phrase="a cat")
    scene = Scene(background=source, regions=(region,))
    edit = BackgroundEdit.of(scene)
    pin = edit.pin(tiny, (64, 64), edit.covered())
    assert torch.equal(pin.mask, torch.cat([torch.ones(8, 5), torch.zeros(8, 3)], dim=1))
    torch.testing.assert_close(pin.known, tiny.vae.encode(as_tensor(source))[0])


@pytest.mark.parametrize("method", OF_UNETS)
@pytest.mark.parametrize("size", [(64, 64), (37, 50), (200, 90)])
def test_run_keeps_the_outside(tiny: Model, method: str, size: tuple[int, int]) -> None:
    source = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    shapes = (
        Region(box=(0.1, 0.1, 0.4, 0.5), phrase="a cat"),
        Region(ellipse=(0.5, 0.3, 0.8, 0.9), phrase="a car", feather=0.2),
    )
    scene = Scene(caption="on the beach", background=source, regions=shapes, method=method, seed=1)
    result = generate(scene, tiny, num_images=2)
    assert (result.report["identical_outside"], result.report["max_difference_outside"]) == (True, 0)
    outside = np.stack([s.soft_mask(size[1], size[0]) for s in shapes]).max(axis=0) == 0
    first, second = (np.asarray(image) for image in result.images)
    for image in (first, second):
        assert image.shape == source.shape
        assert np.array_equal(image[outside], source[outside])
        assert not np.array_equal(image, source)
    assert not np.array_equal(first, second)


def test_outside_of_the_mask_the_canvas_ends_as_it_was_known(tiny: Model) -> None:
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    region = Region(box=(0.0, 0.0, 0.5, 1.0), phrase="a cat")
    scene = Scene(background=source, regions=(region,), seed=1, sampler="euler")
    latents = generate(scene, tiny, output_type="latent").latents[0]
    known = tiny.vae.encode(as_tensor(source))[0]
    torch.testing.assert_close(latents[..., 4:], known[..., 4:], atol=1e-5, rtol=0)
    assert (latents[..., :4] - known[..., :4]).abs().mean() > 0.01


def test_at_strength_1_nothing_under_the_mask_is_kept(tiny: Model) -> None:
    """Two pictures that differ only under the mask have the same initial latents there: noise alone."""
    first = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    starts = []
    for under in (0, 255):
        source = first.copy()
        source[:, :32] = under
        region = Region(box=(0.0, 0.0, 0.5, 1.0), phrase="a cat")
        scene = Scene(background=source, regions=(region,), seed=1)
        prepared = prepare(scene, tiny)
        assert prepared.edit is not None
        pin = prepared.edit.pin(tiny, size_of(prepared.scene), prepared.edit.covered())
        noise = torch.ones(4, 8, 8)
        begin = start(pin, noise, prepared.steps[0], strength=1.0)
        starts.append(begin)
        assert torch.equal(begin[..., :4], noise[..., :4])
        first_step = prepared.steps[0]
        noised = start(pin, noise, first_step, strength=0.5)
        torch.testing.assert_close(noised, first_step.alpha * pin.known + first_step.s * noise)
        torch.testing.assert_close(begin[..., 4:], noised[..., 4:])
    assert torch.equal(starts[0][..., :4], starts[1][..., :4])


def test_image_to_image_changes_the_whole_picture_by_strength(tiny: Model) -> None:
    source = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    scene = Scene(caption="on the beach", background=source, seed=1, steps=10)
    result = generate(scene.replace(strength=0.3), tiny)
    assert result.report["forwards"] == 3
    assert (result.report["identical_outside"], result.report["max_difference_outside"]) == (None, None)
    assert result.image.size == (80, 48)
    assert (result.scene.width, result.scene.height) == (80, 64)
    unchanged = generate(scene.replace(strength=0.0), tiny)
    assert np.array_equal(np.asarray(unchanged.image), source)
    assert unchanged.report["forwards"] == 0


def test_size_of_the_canvas_may_be_given(tiny: Model) -> None:
    source = np.zeros((48, 80, 3), np.uint8)
    result = generate(Scene(background=source, seed=1, strength=0.5, width=96, height=72), tiny)
    assert result.latents.shape == (1, 4, 9, 12)
    assert result.image.size == (80, 48)


def test_dropped_regions_are_not_repainted(tiny: Model) -> None:
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = Region(name="kept", box=(0.5, 0.0, 1.0, 1.0), phrase=" ".join(["cat"] * 50))
    dropped = Region(name="dropped", box=(0.0, 0.0, 0.3, 1.0), phrase=" ".join(["car"] * 50))
    result = generate(Scene(background=source, regions=(whole, dropped), seed=1), tiny)
    assert result.report["dropped"] == ["dropped"]
    assert np.array_equal(np.asarray(result.image)[:, :32], source[:, :32])


def test_regions_of_weight_0_are_not_repainted(tiny: Model) -> None:
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    off = Region(box=(0.0, 0.0, 0.3, 1.0), phrase="a car", weight=0.0)
    on = Region(box=(0.5, 0.0, 1.0, 1.0), phrase="a cat")
    both = generate(Scene(background=source, regions=(on, off), seed=1), tiny)
    assert both.image.tobytes() == generate(Scene(background=source, regions=(on,), seed=1), tiny).image.tobytes()
    with pytest.raises(SceneError, match="All regions have weight 0"):
        generate(Scene(background=source, regions=(off,)), tiny)


def test_pixels_survive_the_way_to_a_tensor_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert np.array_equal(as_pixels(as_tensor(pixels)[0]), pixels)
    assert as_tensor(pixels).min() == -1
    assert as_tensor(pixels).max() == 1


def test_a_large_enlargement_is_warned_of(tiny: Model) -> None:
    region = Region(name="all", box=(0.0, 0.0, 1.0, 1.0), phrase="a cat")
    scene = Scene(background=Image.new("RGB", (300, 300)), regions=[region], seed=0, steps=1)
    (warning,) = generate(scene, tiny).report["warnings"]
    assert "window of 300 x 300 pixels that is generated at 64 x 64" in warning
    assert "enlarged 4.7 times" in warning
    small = Region(name="small", box=(0.1, 0.1, 0.2, 0.2), phrase="a cat")
    assert generate(scene.replace(regions=[small]), tiny).report["warnings"] == []


@pytest.mark.parametrize(("mode", "part"), [("P", "5 colours (mode P)"), ("L", "a grey image (mode L)"), ("RGB", "")])
def test_a_background_that_cannot_hold_all_colours_is_warned_of(tiny: Model, mode: str, part: str) -> None:
    image = Image.new(mode, (64, 64))
    if mode == "P":
        image.putpalette(list(range(15)))
    region = Region(name="all", box=(0.0, 0.0, 1.0, 1.0), phrase="a cat")
    warnings = generate(Scene(background=image, regions=[region], seed=0, steps=1), tiny).report["warnings"]
    assert [part in warning for warning in warnings] == ([True] if part else [])


def test_a_hole_for_an_exemplar_is_shown_with_the_picture_around_it() -> None:
    source, exemplar = np.full((400, 400, 3), 100, np.uint8), np.zeros((8, 8, 3), np.uint8)
    box = (0.4, 0.4, 0.5, 0.5)

    def side(native: int, **fields: Any) -> int:
        return BackgroundEdit.of(Scene(background=source, regions=(Region(box=box, **fields),)), native).window.width

    assert side(128, phrase="a cat") == 60
    assert side(128, exemplar=exemplar) == 128
    assert side(512, exemplar=exemplar) == 140
    assert side(32, exemplar=exemplar) == 60


def painted(
    side: int, box: tuple[float, float, float, float], feather: float = 0.0
) -> tuple[BackgroundEdit, np.ndarray]:
    """A black picture of ``side`` pixels, and how white each pixel is after white was drawn at 64 x 64."""
    region = Region(box=box, phrase="a cat", feather=feather)
    edit = BackgroundEdit.of(Scene(background=np.zeros((side, side, 3), np.uint8), regions=(region,)))
    result = edit.pasted(np.full((64, 64, 3), 255, np.uint8), edit.covered())
    return edit, np.asarray(result)[..., 0] / 255


@pytest.mark.parametrize("side", [400, 640])
def test_what_is_much_enlarged_fades_in_along_a_seam_inside(side: int) -> None:
    edit, white = painted(side, (0.25, 0.25, 0.75, 0.75))
    enlarged = edit.window.width / 64
    assert enlarged > 2
    covered = edit.covered()
    assert (white[covered == 0] == 0).all()
    middle = white[side // 2, side // 4 : side // 2]
    assert middle[0] < 0.1
    assert (np.diff(middle) >= 0).all()
    assert np.diff(middle).max() <= 1.5 / (4 * enlarged)
    assert (middle[math.ceil(4 * enlarged) :] == 1).all()
    assert (np.asarray(edit.whole(np.full((64, 64, 3), 255, np.uint8)))[edit.window.slices] == 255).all()


def test_what_is_little_enlarged_has_its_hard_edge() -> None:
    edit, white = painted(160, (0.25, 0.25, 0.75, 0.75))
    assert edit.window.width / 64 <= 2
    assert np.array_equal(white, edit.covered())


def test_a_thin_part_keeps_its_inner_half() -> None:
    source = np.zeros((400, 400, 3), np.uint8)
    mask = np.zeros((400, 400), bool)
    mask[20:220, 20:220] = mask[300:306, 20:220] = True
    edit = BackgroundEdit.of(Scene(background=source, regions=(Region(mask=mask, phrase="a cat"),)))
    white = np.asarray(edit.pasted(np.full((64, 64, 3), 255, np.uint8), edit.covered()))[..., 0] / 255
    assert white[302:304, 40:200].min() == 1
    assert (white[~mask] == 0).all()


@given(seed=st.integers(0, 99), pixels=st.floats(0.5, 40))
def test_a_seam_only_takes_away_and_never_outside(seed: int, pixels: float) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0.0, 0.0, 0.4, 1.0], (6, 8))
    mask = np.kron(coarse, np.ones((7, 7))).astype(np.float32)
    seam = seamed(mask, pixels)
    assert (seam <= mask).all()
    assert ((seam > 0) == (mask > 0)).all()


def test_a_wide_feather_is_its_own_seam() -> None:
    _, soft = painted(400, (0.1, 0.1, 0.9, 0.9), feather=0.5)
    region = Region(box=(0.1, 0.1, 0.9, 0.9), phrase="a cat", feather=0.5)
    assert soft == pytest.approx(region.soft_mask(400, 400), abs=0.5 / 255 + 1e-6)


def test_a_coarse_window_is_said_with_its_smallest_detail(tiny: Model) -> None:
    region = Region(name="all", box=(0.0, 0.0, 1.0, 1.0), phrase="a cat")
    scene = Scene(background=Image.new("RGB", (300, 300)), regions=[region], seed=0, steps=1)
    (warning,) = generate(scene, tiny).report["warnings"]
    assert "no detail is finer than 10 pixels" in warning
    (less,) = generate(scene.replace(background=Image.new("RGB", (200, 200))), tiny).report["warnings"]
    assert "detail" not in less


def test_a_space_of_its_own_is_kept_and_warned_of(tiny: Model, tmp_path: Path) -> None:
    chunks = PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG", pnginfo=chunks, dpi=(300, 300))
    region = Region(name="pet", box=(0.0, 0.0, 0.5, 0.5), phrase="a cat")
    scene = Scene(background=ImageRef(data=file.getvalue()), regions=[region], seed=0, steps=1)
    result = generate(scene, tiny)
    assert "gAMA 1, which is preserved" in " ".join(result.report["warnings"])
    result.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["gamma"] == 1
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    again = generate(Scene.from_png(tmp_path / "a.png"), tiny)
    again.save(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    result.save(tmp_path / "a.webp")
    assert "a.webp cannot store the background's colour space (gAMA 1)" in result.report["warnings"][-1]


def test_inside_of_an_earlier_image_another_shade_meets_it() -> None:
    earlier, drawn = (Image.new("RGB", (64, 64), (level,) * 3) for level in (100, 120))
    region = Region(name="hat", box=(0.25, 0.25, 0.75, 0.75), phrase="a hat")
    scene = Scene(regions=(region,), width=64, height=64, outside={"image": earlier, "regions": ["hat"]})
    outside = OutsideImage.of(scene, (64, 64))
    assert outside is not None
    result = np.asarray(outside.pasted(drawn)).astype(int)
    assert (result[outside.covered == 0] == 100).all()
    assert np.abs(np.diff(result, axis=1)).max() < 8
    assert result[32, 32, 0] > 115
