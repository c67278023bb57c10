"""The filters are what their formulas say, the loss counts inside of the mask, and nothing is infinite."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cloisonne.train.control.edges import EPSILON, FILTERS, laplacian, schedule, sobel, x0_loss

DERIVED = ("sobel", "laplacian")


def by_hand(x: np.ndarray) -> np.ndarray:
    """Sobel's strength of [H, W], pixel by pixel; neighbours beyond the border are the border's."""
    height, width = x.shape
    out = np.zeros_like(x)
    for i in range(height):
        for j in range(width):
            n = {
                (a, b): x[min(max(i + a, 0), height - 1), min(max(j + b, 0), width - 1)]
                for a in (-1, 0, 1)
                for b in (-1, 0, 1)
            }
            across = (n[-1, 1] + 2 * n[0, 1] + n[1, 1] - n[-1, -1] - 2 * n[0, -1] - n[1, -1]) / 8
            down = (n[1, -1] + 2 * n[1, 0] + n[1, 1] - n[-1, -1] - 2 * n[-1, 0] - n[-1, 1]) / 8
            out[i, j] = np.sqrt(across**2 + down**2 + EPSILON)
    return out


def test_sobel_is_the_reference_of_each_channel() -> None:
    x = torch.randn(2, 4, 7, 9)
    expected = np.stack([[by_hand(channel) for channel in sample] for sample in x.double().numpy()])
    torch.testing.assert_close(sobel(x).double(), torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_sobel_of_a_ramp_is_its_slope() -> None:
    ramp = 0.25 * torch.arange(9.0).expand(1, 1, 6, 9)
    inner = sobel(ramp)[..., 1:-1]
    assert inner.numpy() == pytest.approx(0.25, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_of_a_constant_sobel_is_nothing_with_a_finite_gradient(value: float) -> None:
    x = torch.full((1, 2, 6, 6), value, requires_grad=True)
    strength = sobel(x)
    assert strength.detach().numpy() == pytest.approx(EPSILON**0.5, abs=1e-6)
    strength.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_the_laplacians_kernel_sums_to_0() -> None:
    """So constants and, inside, ramps give nothing, and a point gives the kernel itself."""
    assert float(laplacian(torch.full((1, 3, 8, 8), 5.0)).abs().max()) < 1e-5
    ramp = torch.arange(9.0).expand(1, 1, 9, 9)
    assert float(laplacian(ramp)[..., 2:-2].abs().max()) < 1e-5
    point = torch.zeros(1, 1, 11, 11)
    point[0, 0, 5, 5] = 1
    kernel = laplacian(point)[0, 0, 3:8, 3:8]
    assert float(kernel.sum()) == pytest.approx(0, abs=1e-6)
    assert float(kernel.abs().sum()) == pytest.approx(1)
    assert kernel.argmin() == 12


@pytest.mark.parametrize("kind", FILTERS)
def test_channels_do_not_mix(kind: str) -> None:
    x = torch.randn(1, 3, 8, 8)
    whole = FILTERS[kind](x)
    for k in range(3):
        torch.testing.assert_close(whole[:, k : k + 1], FILTERS[kind](x[:, k : k + 1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", FILTERS)
def test_where_the_mask_is_0_nothing_counts(kind: str) -> None:
    estimate, z0 = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    nothing = torch.zeros(2, 1, 8, 8)
    for by_area in (False, True):
        assert x0_loss(kind, estimate, z0, nothing, by_area=by_area).tolist() == [0, 0]
    half = nothing.clone()
    half[..., :4] = 1
    assert (x0_loss(kind, estimate, z0, half, by_area=False) > 0).all()
    elsewhere = estimate.clone()
    elsewhere[..., 6:] += 9
    moved = x0_loss(kind, elsewhere, z0, half, by_area=False)
    torch.testing.assert_close(moved, x0_loss(kind, estimate, z0, half, by_area=False))


@pytest.mark.parametrize("kind", FILTERS)
def test_the_truth_has_no_loss(kind: str) -> None:
    z0 = torch.randn(2, 4, 8, 8)
    assert x0_loss(kind, z0.clone(), z0, torch.ones(2, 1, 8, 8), by_area=False).tolist() == [0, 0]


def test_the_plain_loss_is_the_masks_mean_squared_error_of_each_sample() -> None:
    estimate, z0, mask = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.rand(3, 1, 8, 8)
    loss = x0_loss("plain", estimate, z0, mask, by_area=False)
    for k in range(3):
        expected = float(((estimate[k] - z0[k]) ** 2 * mask[k]).sum()) / (4 * 8 * 8)
        assert float(loss[k]) == pytest.approx(expected, rel=1e-5)


def test_a_constant_shift_is_no_edge() -> None:
    z0, mask = torch.randn(2, 4, 8, 8), torch.ones(2, 1, 8, 8)
    for kind in DERIVED:
        assert float(x0_loss(kind, z0 + 3, z0, mask, by_area=False).max()) < 1e-9
    assert x0_loss("plain", z0 + 3, z0, mask, by_area=False).numpy() == pytest.approx(9, rel=1e-4)


def density() -> tuple[Tensor, Tensor]:
    """An estimate that is wrong by as much everywhere, and the truth."""
    z0 = torch.randn(1, 4, 16, 16)
    return z0 + 0.5 * (torch.randint(0, 2, z0.shape) * 2 - 1), z0


def test_by_area_small_masks_weigh_as_much_as_large_ones() -> None:
    estimate, z0 = density()
    small, whole = torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
    small[..., 3:5, 7:9] = 1
    both = [float(x0_loss("plain", estimate, z0, mask, by_area=True)) for mask in (small, whole)]
    assert both == pytest.approx([0.25, 0.25], rel=1e-5)
    plain = [float(x0_loss("plain", estimate, z0, mask, by_area=False)) for mask in (small, whole)]
    assert plain == pytest.approx([0.25 * 4 / 256, 0.25], rel=1e-5)


def test_schedules() -> None:
    t = torch.tensor([0, 499, 500, 999])
    s = torch.tensor([0.1, 0.5, 0.6, 0.9])
    assert schedule("constant", t, s).tolist() == [1, 1, 1, 1]
    assert schedule("step", t, s).tolist() == [0, 0, 1, 1]
    assert schedule("time", t, s).numpy() == pytest.approx(np.array([0.01, 0.25, 0.36, 0.81]))
