"""Edges of an image against the edges to be followed inside a mask, and variety over seeds.

Edges are bool [H, W], from ``scene.maps.canny``. LFMSE and DiffCC are those of arXiv 2602.01991, as its code computes
them: on maps blurred with 11 x 11 pixels, sigma 5, and at an eighth of their size.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cloisonne.scene.control_maps import canny

TOLERANCE = 2
"""Tolerance of an edge's position in pixels."""
_KERNEL, _SIGMA, _COARSER = (11, 11), 5, 8

Edges = NDArray[np.bool_]
Figures = dict[str, float | None]
"""Name -> figure; None if there is nothing to measure."""


def edges(rgb: NDArray[np.uint8]) -> Edges:
    """The edges [H, W] of an image, uint8 [H, W, 3]."""
    return canny(rgb) > 0


def edge_figures(generated: Edges, true: Edges, mask: NDArray[np.bool_]) -> Figures:
    """All figures of an image's edges against the true ones inside the mask [H, W]."""
    return {
        **boundary(generated, true, mask),
        **low_frequency(generated, true, mask),
        "outside": float(generated[~mask].sum()) if not mask.all() else None,
    }


def boundary(generated: Edges, true: Edges, mask: NDArray[np.bool_]) -> Figures:
    """F-measure of the edges inside, with a tolerance of ``TOLERANCE`` pixels.

    precision: fraction of the generated edge pixels inside with a true one within the tolerance; None without any.
    recall: fraction of the true ones inside with a generated one within the tolerance; None without any. Only pixels
    inside are counted; their counterparts may lie across the mask's border. f: the harmonic mean; 1 if neither has an
    edge inside and 0 if only one has. All are None for an empty mask.
    """
    precision, recall = _near(generated & mask, true), _near(true & mask, generated)
    if not mask.any():
        f = None
    elif precision is None or recall is None:
        f = float(precision == recall)
    else:
        f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"f": f, "precision": precision, "recall": recall}


def _near(counted: Edges, others: Edges) -> float | None:
    """Fraction of the counted pixels with one of the others within the tolerance."""
    if not counted.any():
        return None
    offsets = np.arange(-TOLERANCE, TOLERANCE + 1) ** 2
    disc = (offsets[:, None] + offsets[None] <= TOLERANCE**2).astype(np.uint8)
    reached = cv2.dilate(others.astype(np.uint8), disc) > 0
    return float(reached[counted].mean())


def low_frequency(generated: Edges, true: Edges, mask: NDArray[np.bool_]) -> Figures:
    """LFMSE and DiffCC, on coarse maps [H/8, W/8] in 0..1.

    lfmse_in: mean squared error inside. lfmse_out: outside, against ones; lower the more edges there are.
    lfmse_tot: their sum. coincidence: 1 minus the fraction of the truth's edges inside that are fainter in the image.
    hallucination_in: fraction of the inside where the image exceeds the truth. hallucination_out: fraction of the
    outside where the image has any edges.
    """
    a, b = _coarse(generated), _coarse(true)
    size = (mask.shape[1] // _COARSER, mask.shape[0] // _COARSER)
    inside = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    lfmse_in, lfmse_out = _mean(((a - b) ** 2)[inside]), _mean(((a - 1) ** 2)[~inside])
    missed = _mean((b > a)[inside & (b > 0)])
    return {
        "lfmse_in": lfmse_in,
        "lfmse_out": lfmse_out,
        "lfmse_tot": None if lfmse_in is None or lfmse_out is None else lfmse_in + lfmse_out,
        "coincidence": None if missed is None else 1 - missed,
        "hallucination_in": _mean((a > b)[inside]),
        "hallucination_out": _mean((a > 0)[~inside]),
    }


def _coarse(found: Edges) -> NDArray[np.floating]:
    # The blur is rounded to whole grey levels, as in the published code; traces below half a level vanish.
    blurred = cv2.GaussianBlur(found.astype(np.uint8) * 255, _KERNEL, _SIGMA)
    size = (found.shape[1] // _COARSER, found.shape[0] // _COARSER)
    return np.asarray(cv2.resize(blurred, size), np.float32) / 255


def _mean(values: NDArray[np.floating] | NDArray[np.bool_]) -> float | None:
    return float(values.mean(dtype=np.float64)) if values.size else None


@torch.no_grad()
def variety(
    pictures: Sequence[NDArray[np.uint8]], mask: NDArray[np.bool_], embed: Callable[[NDArray[np.uint8]], Tensor]
) -> Figures:
    """Differences of images of several seeds, uint8 [H, W, 3]: means over all pairs.

    inside, outside: mean absolute difference of the pixels, in 0..1. whole: distance of the embeddings [D].
    """
    return {
        "inside": _apart([rgb[mask] for rgb in pictures]),
        "outside": _apart([rgb[~mask] for rgb in pictures]),
        "whole": float(torch.pdist(torch.stack([embed(rgb) for rgb in pictures])).mean()),
    }


def _apart(pixels: Sequence[NDArray[np.uint8]]) -> float | None:
    if not pixels[0].size:
        return None
    return float(np.mean([np.abs(a.astype(np.float32) - b).mean() for a, b in combinations(pixels, 2)])) / 255
