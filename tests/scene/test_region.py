import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloisonne.errors import ImageError, SceneError
from cloisonne.scene import Region

SHAPES = {
    "box": (0.125, 0.25, 0.375, 0.75),
    "ellipse": (0.125, 0.25, 0.375, 0.75),
    "polygon": [(0.125, 0.25), (0.375, 0.25), (0.125, 0.75)],
    "rle": {"size": [4, 8], "counts": [5, 2, 2, 2, 21]},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_bounding_box_of_every_shape(shape) -> None:
    region = Region(phrase="a cat", **{shape: SHAPES[shape]})
    assert region.bounding_box() == (0.125, 0.25, 0.375, 0.75)


def test_bounding_box_of_a_grey_mask_has_a_level() -> None:
    mask = np.zeros((10, 10))
    mask[2:8, 2:8], mask[4:6, 4:6] = 0.3, 1
    region = Region(phrase="a cat", mask=mask)
    assert region.bounding_box() == (0.2, 0.2, 0.8, 0.8)
    assert region.bounding_box(0.5) == (0.4, 0.4, 0.6, 0.6)
    with pytest.raises(SceneError, match="no value above 1"):
        region.bounding_box(1)


@pytest.mark.parametrize("shape", SHAPES)
def test_soft_mask_of_every_shape(shape) -> None:
    region = Region(phrase="a cat", **{shape: SHAPES[shape]})
    mask = region.soft_mask(64, 128)
    assert (mask.shape, mask.dtype) == ((64, 128), np.float32)
    assert set(np.unique(mask)) == {0, 1}
    covered = {"box": 1, "ellipse": np.pi / 4, "polygon": 1 / 2, "rle": 1}[shape]
    assert mask.mean() == pytest.approx(covered * 0.125, rel=0.05)


def test_grey_masks_stay_grey() -> None:
    grey = np.linspace(0, 1, 64).reshape(8, 8)
    assert Region(phrase="a cat", mask=grey).soft_mask(8, 8) == pytest.approx(grey, abs=1e-5)


@given(st.sampled_from(["box", "ellipse", "polygon", "rle"]), st.floats(0, 0.5))
def test_feather_is_a_fraction_of_the_shorter_side(shape, feather) -> None:
    region = Region(phrase="a cat", **{shape: SHAPES[shape]})
    hard, soft = region.soft_mask(64, 64), region.replace(feather=feather).soft_mask(64, 64)
    assert (soft <= hard).all()
    if shape == "box":
        # 16 pixels wide, so the ramp is 16 * feather long; its middle row begins with a ramp of that slope.
        width = max(16 * feather, 0.5)
        assert soft[32, 8:16] == pytest.approx(np.clip((np.arange(8) + 0.5) / width, 0, 1), abs=1e-5)


def test_shapes_between_pixel_centres_are_reported() -> None:
    region = Region(name="dot", phrase="a dot", box=(0.501, 0.501, 0.502, 0.502))
    with pytest.raises(
        SceneError, match=r'Region "dot": The region covers no pixel of the 8 x 8 canvas; make it larger\.'
    ):
        region.soft_mask(8, 8)


def test_a_missing_mask_is_found_when_it_is_needed(tmp_path) -> None:
    region = Region(name="sky", phrase="stars", mask=tmp_path / "sky.png")
    with pytest.raises(ImageError, match='Region "sky": There is no file'):
        region.soft_mask(8, 8)


@pytest.mark.parametrize(
    ("fields", "active"),
    [({}, True), ({"weight": 0}, False), ({"start": 0.5, "stop": 0.5}, False), ({"start": 0.5, "stop": 0.6}, True)],
)
def test_active(fields, active) -> None:
    assert Region(phrase="a cat", box=(0, 0, 1, 1), **fields).active == active


def test_numpy_numbers_are_numbers() -> None:
    region = Region(phrase="a cat", box=np.array([0, 0, 0.5, 1]), weight=np.float32(0.5), priority=np.int64(3))
    assert region == Region(phrase="a cat", box=(0, 0, 0.5, 1), weight=0.5, priority=3)
    assert type(region.priority) is int


def test_regions_are_frozen_hashable_values() -> None:
    region = Region(phrase="a cat", mask=np.ones((2, 2)))
    assert {region: 1}[Region(phrase="a cat", mask=np.ones((2, 2)))] == 1
    assert region != region.replace(phrase="a dog")
    with pytest.raises(SceneError, match="has 2 shapes"):
        region.replace(box=(0, 0, 1, 1))
    with pytest.raises(ValueError, match="frozen"):
        region.phrase = "a dog"


def test_repr_has_the_fields_that_are_not_defaults() -> None:
    assert repr(Region(name="pet", phrase="a cat", box=(0, 0, 1, 1))) == (
        "Region(name='pet', box=(0.0, 0.0, 1.0, 1.0), phrase='a cat')"
    )


def test_keywords_round_trip() -> None:
    region = Region(phrase="a cat", box=(0, 0, 1, 1), keywords=["cat", "long fur"])
    assert region.keywords == ("cat", "long fur")
    assert region.model_dump(mode="json", exclude_defaults=True)["keywords"] == ["cat", "long fur"]
    assert Region.model_validate_json(region.model_dump_json()) == region


@pytest.mark.parametrize("keywords", ["cat", [5], [""], [" "], {"a": 1}, None, ["cat"] * 33])
def test_keywords_are_a_short_list_of_words(keywords) -> None:
    with pytest.raises(SceneError, match=r'"pet".*keywords is .*; give a list of at most 32 words or phrases'):
        Region(name="pet", phrase="a cat", box=(0, 0, 1, 1), keywords=keywords)
