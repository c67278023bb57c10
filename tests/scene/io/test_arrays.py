"""Images and masks from arrays and tensors: floats in [0, 1] give the same images as the integers they stand for."""

import numpy as np
import pytest
import torch

from cloisonne.errors import ImageError
from cloisonne.scene.io.image_ref import given_background, given_mask
from cloisonne.scene.io.images import load_mask, opened
from cloisonne.scene.region import Region

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_floats_are_the_nearest_levels(dtype: type, shape: tuple[int, ...]) -> None:
    levels = RNG.integers(0, 256, shape, np.uint8)
    levels.flat[:2] = (0, 255)
    floats = (levels / 255).astype(dtype)
    assert given_background(floats) == given_background(levels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8])
@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_tensors_have_their_channels_first(dtype: torch.dtype, channels: tuple[int, ...]) -> None:
    levels = torch.tensor([0, 51, 102, 255], dtype=torch.uint8)[torch.randint(0, 4, (*channels, 5, 7))]
    tensor = levels if dtype == torch.uint8 else (levels.float() / 255).to(dtype)
    pixels = np.asarray(opened(given_background(tensor.requires_grad_(dtype.is_floating_point)), "background"))
    expected = np.moveaxis(levels.numpy(), 0, -1) if channels else levels.numpy()
    atol = 1 if dtype == torch.bfloat16 else 0  # 8 bits of mantissa
    np.testing.assert_allclose(pixels.reshape(expected.shape).astype(int), expected.astype(int), atol=atol)


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6)])
def test_masks_are_read_from_tensors(shape: tuple[int, ...]) -> None:
    mask = torch.linspace(0, 1, 24).reshape(shape)
    np.testing.assert_allclose(load_mask(given_mask(mask)), mask.reshape(4, 6).numpy(), atol=1 / 65535)
    assert (load_mask(given_mask(mask > 0.5)) == (mask > 0.5).reshape(4, 6).numpy()).all()


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ([-1.0, 1.0], "values from -1 to 1"),
        ([0.0, 255.0], "values from 0 to 255"),
        ([0.0, 1.5], "values from 0 to 1.5"),
        ([0.0, float("nan")], "NaN or infinity"),
        ([0.0, float("inf")], "NaN or infinity"),
    ],
)
@pytest.mark.parametrize("given", [given_background, given_mask])
def test_values_outside_are_refused_with_their_range(kind, values, wrong, given) -> None:
    with pytest.raises(ImageError, match=wrong):
        given(kind([values, values]))


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3, 4, 4), torch.zeros(5, 4, 4), torch.zeros(3, 4, 4).int()])
def test_tensors_of_other_shapes_are_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(ImageError, match=r"a tensor of .*, which is not supported; give uint8, or floats from 0 to 1"):
        given_background(wrong)


def test_every_field_for_pictures_takes_tensors() -> None:
    picture, mask = torch.rand(3, 8, 8), torch.ones(8, 8)
    region = Region(mask=mask, phrase="a cat", exemplar=picture, control={"kind": "canny", "image": picture})
    assert region.exemplar is not None
    assert region.control is not None
    assert region.exemplar.image == region.control.image == given_background(picture)
    assert Region(mask=mask, concept=picture).concept == Region(mask=mask, concept={"image": picture}).concept
