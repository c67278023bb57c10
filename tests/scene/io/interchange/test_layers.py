"""Folders of PNG layers in and out, and Photoshop's layers."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloisonne.errors import CapabilityError, ImageError, OutputError, SceneError
from cloisonne.scene import Region, Scene, export_scene, from_layers, from_psd, import_scene, to_masks

RED = (200, 30, 30)
SIZE = (64, 48)
SCENE = Scene(
    caption="on a (big:1.2) beach",
    width=128,
    height=96,
    overlap="priority",
    seed=3,
    regions=[
        Region(name="front", box=(0, 0, 0.5, 0.5), phrase="a (cat:1.2)", priority=2, negative="dog"),
        Region(name="soft", ellipse=(0.2, 0.2, 0.9, 0.9), phrase="a hat: old?", feather=0.2, weight=0.5),
        Region(name="off", polygon=[(0, 0), (1, 0), (0, 1)], phrase="c", weight=0),
    ],
)


def painted(*parts: tuple[slice, slice], alpha: int = 255) -> Image.Image:
    """A layer in many colours that is opaque in ``parts``."""
    rng = np.random.default_rng(0)
    image = np.concatenate([rng.integers(0, 256, (SIZE[1], SIZE[0], 3)), np.zeros((SIZE[1], SIZE[0], 1))], 2)
    for part in parts:
        image[(*part, 3)] = alpha
    return Image.fromarray(image.astype(np.uint8))


def mask(*parts: tuple[slice, slice]) -> np.ndarray:
    found = np.zeros((SIZE[1], SIZE[0]), np.float32)
    for part in parts:
        found[part] = 1
    return found


LEFT, TOP = (slice(None), slice(0, 32)), (slice(0, 24), slice(None))


def test_files_are_regions_by_their_alpha(tmp_path: Path) -> None:
    painted(LEFT, alpha=128).save(tmp_path / "a_red (old) hat.png")
    (tmp_path / "animals").mkdir()
    painted(TOP).save(tmp_path / "animals" / "cat.png")
    Image.fromarray((mask(LEFT) * 255).astype(np.uint8)).save(tmp_path / "white on black.png")
    painted().save(tmp_path / "nothing.png")
    Image.new("RGB", SIZE, RED).save(tmp_path / "Background.png")
    scene, warnings = from_layers(tmp_path)
    assert (scene.overlap, scene.width) == ("blend", None)
    found = {region.name: region for region in scene.regions}
    assert list(found) == ["a red (old) hat", "animals/cat", "white on black"]
    assert [region.phrase for region in scene.regions] == [r"a red \(old\) hat", "cat", "white on black"]
    masks = [region.soft_mask(SIZE[1], SIZE[0]) for region in scene.regions]
    for one, expected in zip(masks, (mask(LEFT) * 128 / 255, mask(TOP), mask(LEFT)), strict=True):
        np.testing.assert_allclose(one, expected, atol=1e-6)
    text = " ".join(warnings)
    assert 'The layer "nothing" is empty' in text
    assert 'The layer "Background" is opaque everywhere' in text
    assert "The size 64 x 48 was not carried" in text
    assert len(warnings) == 3


def test_numbers_are_the_order_from_back_to_front(tmp_path: Path) -> None:
    for name in ("10 b.png", "2-a.png", "30_c.png"):
        painted(LEFT).save(tmp_path / name)
    scene, _ = from_layers(tmp_path)
    assert [(region.phrase, region.priority) for region in scene.regions] == [("a", 2), ("b", 10), ("c", 30)]
    assert scene.overlap == "priority"
    painted(LEFT).save(tmp_path / "d.png")
    assert {region.priority for region in from_layers(tmp_path)[0].regions} == {0}


@pytest.mark.parametrize("size", [None, (64, 48), (100, 100)])
def test_masks_come_back_with_the_scene(tmp_path: Path, size: tuple[int, int] | None) -> None:
    paths, warnings = export_scene(SCENE, tmp_path / "m", "masks", size=size)
    assert warnings == ()
    assert [path.name for path in paths] == ["scene.json", "00 a hat old.png", "01 c.png", "02 a cat.png"]
    scene, warnings = import_scene(tmp_path / "m")
    assert warnings == ()
    assert scene == Scene.load(tmp_path / "m" / "scene.json")
    assert scene.replace(regions=()) == SCENE.replace(regions=())
    width, height = size or (128, 96)
    for region, given in zip(scene.regions, SCENE.regions, strict=True):
        options = {"name", "phrase", "negative", "weight", "priority", "feather"}
        assert {name: getattr(region, name) for name in options} == {name: getattr(given, name) for name in options}
        np.testing.assert_array_equal(region.soft_mask(height, width), given.soft_mask(height, width))


def test_soft_masks_come_back_to_8_bits(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(64, 0)
    scene = Scene(width=64, height=64, regions=[Region(mask=ramp, phrase="fog")])
    to_masks(scene, tmp_path / "m", (64, 64))
    found = from_layers(tmp_path / "m")[0].regions[0].soft_mask(64, 64)
    np.testing.assert_allclose(found, ramp, atol=0.5 / 255 + 1e-4)


def test_layers_that_are_added_to_an_export_are_further_regions(tmp_path: Path) -> None:
    to_masks(SCENE, tmp_path / "m", SIZE)
    painted(LEFT).save(tmp_path / "m" / "a dog.png")
    scene, _ = from_layers(tmp_path / "m")
    assert [region.name for region in scene.regions] == ["front", "soft", "off", "a dog"]
    (tmp_path / "m" / "scene.json").unlink()
    phrases = [region.phrase for region in from_layers(tmp_path / "m")[0].regions]
    assert phrases == ["a hat old", "c", "a cat", "a dog"]


def test_exports_do_not_replace_files_unasked(tmp_path: Path) -> None:
    to_masks(SCENE, tmp_path / "m", SIZE)
    with pytest.raises(OutputError, match="exists"):
        to_masks(SCENE, tmp_path / "m", SIZE)
    fewer = SCENE.replace(regions=SCENE.regions[:1])
    _, warnings = to_masks(fewer, tmp_path / "m", SIZE, overwrite=True)
    assert warnings == (
        "The folder also has 00 a hat old.png, 01 c.png, 02 a cat.png; as layers these are further regions.",
    )
    with pytest.raises(OutputError, match="cannot be made"):
        to_masks(SCENE, tmp_path / "absent" / "m", SIZE)
    with pytest.raises(SceneError, match="no regions"):
        to_masks(Scene(caption="a"), tmp_path / "n", SIZE)


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no PNG in"):
        from_layers(tmp_path)
    painted(LEFT).save(tmp_path / "a.png")
    Image.new("RGBA", (10, 10), RED).save(tmp_path / "b.png")
    with pytest.raises(SceneError, match=r"10 x 10 pixels, but .* 64 x 48; export all layers"):
        from_layers(tmp_path)
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"b\.png"):
        from_layers(tmp_path)
    with pytest.raises(SceneError, match="no folder"):
        from_layers(tmp_path / "absent")
    to_masks(SCENE, tmp_path / "m", SIZE)
    (tmp_path / "m" / "01 c.png").unlink()
    with pytest.raises(ImageError, match='Region "off"'):
        from_layers(tmp_path / "m")


def photoshop(path: Path, depth: int = 8) -> Any:
    """A document with a layer of half opacity that reaches outside, and a hidden group with a mask."""
    psd_tools = pytest.importorskip("psd_tools")
    document = psd_tools.PSDImage.new("RGB", SIZE, depth=depth)
    document.create_pixel_layer(Image.new("RGB", SIZE, RED), name="Background")
    document.create_pixel_layer(Image.new("RGB", (32, 24), RED), name="a (red) hat", top=-12, left=48, opacity=51)
    group = document.create_group(name="pets", opacity=128)
    cat = group.create_pixel_layer(Image.new("RGB", SIZE, RED), name="a cat")
    cat.create_mask(Image.fromarray((mask(LEFT) * 200).astype(np.uint8)))
    return document


def saved(document: Any, path: Path) -> Path:
    document.save(path)
    return path


@pytest.mark.parametrize("depth", [8, 16])
def test_layers_of_photoshop(tmp_path: Path, depth: int) -> None:
    document = photoshop(tmp_path, depth)
    scene, warnings = import_scene(saved(document, tmp_path / "a.psd"))
    hat, cat = scene.regions
    assert (hat.name, hat.phrase, cat.name, cat.phrase) == ("a (red) hat", r"a \(red\) hat", "pets/a cat", "a cat")
    assert (hat.weight, cat.weight, hat.priority < cat.priority, scene.overlap) == (0.2, 0.502, True, "priority")
    expected = mask((slice(0, 12), slice(48, 64)))
    np.testing.assert_array_equal(hat.soft_mask(SIZE[1], SIZE[0]), expected)
    np.testing.assert_allclose(cat.soft_mask(SIZE[1], SIZE[0]), mask(LEFT) * 200 / 255, atol=1e-6)
    text = " ".join(warnings)
    for wanted in ('"Background" is opaque', '"a (red) hat": its opacity became its weight, 0.2', "The size 64 x 48"):
        assert wanted in text


def test_hidden_clipped_and_masked_groups_of_photoshop(tmp_path: Path) -> None:
    document = photoshop(tmp_path)
    pets = document[-1]
    pets.visible = False
    pets._channels = copy.deepcopy(pets._channels)  # psd-tools would write the mask twice: a group's end shares them
    pets.create_mask(Image.fromarray((mask(TOP) * 255).astype(np.uint8)))
    dog = document.create_pixel_layer(Image.new("RGB", SIZE, RED), name="a dog")
    hat = document[1]
    dog.move_to(document, index=2)
    dog.clipping = True
    scene, warnings = from_psd(saved(document, tmp_path / "a.psd"))
    by_name = {region.phrase: region for region in scene.regions}
    found = by_name["a dog"].soft_mask(SIZE[1], SIZE[0])
    np.testing.assert_array_equal(found, by_name[r"a \(red\) hat"].soft_mask(SIZE[1], SIZE[0]))
    assert hat.name == "a (red) hat"
    cat = by_name["a cat"]
    assert cat.weight == 0
    np.testing.assert_allclose(cat.soft_mask(SIZE[1], SIZE[0]), mask(LEFT) * mask(TOP) * 200 / 255, atol=1e-6)
    assert 'Region "pets/a cat" is hidden in the file; its weight is 0.' in warnings


def test_damaged_photoshop_files_are_refused(tmp_path: Path) -> None:
    whole = saved(photoshop(tmp_path), tmp_path / "a.psd").read_bytes()
    for count in (4, 20, 200, 1000):
        (tmp_path / "b.psd").write_bytes(whole[:count])
        with pytest.raises(ImageError, match=r"b\.psd.* cannot be read as a PSD"):
            import_scene(tmp_path / "b.psd")
    psd_tools = pytest.importorskip("psd_tools")
    with pytest.raises(SceneError, match="has no layer that is a region"):
        from_psd(saved(psd_tools.PSDImage.new("RGB", SIZE), tmp_path / "c.psd"))


def test_photoshop_files_need_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.psd").write_bytes(b"8BPS")
    monkeypatch.setitem(__import__("sys").modules, "psd_tools", None)
    with pytest.raises(CapabilityError, match=r'pip install "cloisonne\[psd\]"'):
        import_scene(tmp_path / "a.psd")
