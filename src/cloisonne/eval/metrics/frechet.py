"""The Fréchet distance of two sets of embeddings (Heusel et al. 2017, arXiv 1706.08500, equation 6)."""

import numpy as np

MIN_PICTURES = 400
"""Fewest embeddings for a reliable covariance of 64 dimensions."""


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The distance of [n, D] and [m, D]; ValueError if either has fewer than ``MIN_PICTURES``.

    It shrinks as n grows: compare only rows of the same n, and relate each to the distance between two sets of real
    images.
    """
    fewest = min(len(a), len(b))
    if fewest < MIN_PICTURES:
        raise ValueError(
            f"{fewest} embeddings are too few for a Fréchet distance: it needs {MIN_PICTURES} of each set."
        )
    return gaussian_distance(a, b)


def gaussian_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|mean_a - mean_b|² + tr(C_a + C_b - 2 (C_a C_b)^½), in float64: the squared distance, as is usual."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    gap = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # tr (C_a C_b)^½ = tr (C_a^½ C_b C_a^½)^½, whose matrix is symmetric: its eigenvalues suffice.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cov_b @ root), 0, None)).sum()
    return float(max(0.0, gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * shared))
