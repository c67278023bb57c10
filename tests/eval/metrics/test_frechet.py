"""The Fréchet distance has the values of its formula."""

import numpy as np
import pytest

from cloisonne.eval.metrics.frechet import MIN_PICTURES, frechet, gaussian_distance


def sample_with(mean: np.ndarray, covariance: np.ndarray, n: int = 500, seed: int = 0) -> np.ndarray:
    """n points whose sample mean and covariance are exactly these."""
    raw = np.random.default_rng(seed).standard_normal((n, len(mean)))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_same_pictures_are_at_no_distance() -> None:
    a = np.random.default_rng(0).standard_normal((MIN_PICTURES, 64))
    assert frechet(a, a[::-1]) == pytest.approx(0, abs=1e-9)


def test_means_count_by_their_square() -> None:
    a = sample_with(np.zeros(8), np.eye(8))
    assert frechet(a, a + np.arange(8)) == pytest.approx(140)


def test_diagonal_covariances() -> None:
    """tr(A + B - 2 (AB)^½) = the sum of squared differences of the deviations."""
    deviations_a, deviations_b = np.array([1.0, 2, 3, 4]), np.array([4.0, 2, 0.5, 1])
    a = sample_with(np.zeros(4), np.diag(deviations_a**2), seed=1)
    b = sample_with(np.ones(4), np.diag(deviations_b**2), seed=2)
    assert frechet(a, b) == pytest.approx(4 + ((deviations_a - deviations_b) ** 2).sum())


def test_covariances_that_do_not_commute() -> None:
    """Against the general square root of the product, by its complex eigenvalues."""
    rng = np.random.default_rng(3)
    factor_a, factor_b = rng.standard_normal((2, 6, 6))
    cov_a, cov_b = factor_a @ factor_a.T, factor_b @ factor_b.T
    expected = np.trace(cov_a + cov_b) - 2 * np.sqrt(np.linalg.eigvals(cov_a @ cov_b)).real.sum()
    distance = frechet(sample_with(np.zeros(6), cov_a, seed=4), sample_with(np.zeros(6), cov_b, seed=5))
    assert distance == pytest.approx(expected)


def test_order_and_rotation_do_not_matter() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((2, 450, 16)) * np.array([[[1.0]], [[1.3]]])
    turn, _ = np.linalg.qr(rng.standard_normal((16, 16)))
    assert frechet(a, b) == pytest.approx(frechet(b, a))
    assert frechet(a, b) == pytest.approx(frechet(a @ turn, b @ turn))


def test_flat_embeddings_are_no_obstacle() -> None:
    """Dead dimensions and float32, as of a network."""
    a = np.random.default_rng(7).standard_normal((500, 64)).astype(np.float32)
    a[:, 10:] = 0
    assert frechet(a, a + np.float32(1)) == pytest.approx(64, rel=1e-5)


@pytest.mark.parametrize(("n", "m"), [(MIN_PICTURES - 1, 1000), (1000, MIN_PICTURES - 1)])
def test_too_few_are_refused(n: int, m: int) -> None:
    with pytest.raises(ValueError, match="399 embeddings are too few"):
        frechet(np.zeros((n, 2)), np.zeros((m, 2)))
    assert gaussian_distance(np.eye(5), np.eye(5)) == pytest.approx(0)
