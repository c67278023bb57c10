"""Initialisation of the ``clipseg`` decoder, which aligns patch features with text features.

A randomly initialised decoder finds nothing for thousands of images, because the CLIP features have a large mean and
few strong directions. Its first product, of a text and a patch projection, is initialised by canonical correlation
analysis (Hotelling 1936) of the patches of objects and their phrases.
"""

import numpy as np
import torch
from torch import Tensor

from cloisonne.models.adapters.clipseg import Segmenter
from cloisonne.train.builtin.clip import PATCH
from cloisonne.train.data import TRAINING_SEEDS, as_tensor
from cloisonne.world.draw import draw
from cloisonne.world.picture import EVERYTHING, Recipe, sample
from cloisonne.world.words import phrase

PICTURES, BATCH = 640, 16
FIRST_SEED = TRAINING_SEEDS * 2
SHRINK = 0.05
"""Fraction of the mean variance that is added to each direction before whitening."""


@torch.no_grad()
def align(segmenter: Segmenter, patches: Tensor, words: Tensor, background: Tensor) -> None:
    """Initialise the first projections and the last layer of the decoder.

    Args:
        segmenter: The segmenter, changed in place.
        patches: Features [n, V] of patches on objects, from the last layer that the decoder reads.
        words: Text features [n, D] of the object at each patch.
        background: Features [m, V] of patches without an object.
    """
    decoder = segmenter.module.decoder
    every = torch.cat([patches, background]).double()
    centre, spread = every.mean(0), _whitening(every)
    text_centre, text_spread = words.double().mean(0), _whitening(words.double())
    correlation = ((patches.double() - centre) @ spread).T @ ((words.double() - text_centre) @ text_spread)
    left, strength, right = torch.linalg.svd(correlation / len(patches), full_matrices=False)
    width = decoder.film_mul.weight.shape[0]
    strength = strength[:width].sqrt()
    reduce = (spread @ left[:, :width]) * strength
    film = (text_spread @ right.T[:, :width]) * strength
    # Half of the products have a negative sign: normalisation removes the mean over the channels.
    signs = torch.ones(width, dtype=reduce.dtype)
    signs[1::2] = -1
    _set(decoder.reduces[0], reduce * signs, centre)
    _set(decoder.film_mul, film, text_centre)
    # All other additive terms start at or near zero, so that they do not dominate.
    for linear in (decoder.film_add, *decoder.reduces[1:]):
        linear.weight.zero_()
        linear.bias.zero_()
    for layer in decoder.layers:
        layer.self_attn.out_proj.weight.mul_(0.1)
        layer.mlp.fc2.weight.mul_(0.1)
    last = decoder.transposed_convolution
    last.weight.copy_(0.25 * signs[:, None, None, None].expand_as(last.weight))
    last.bias.fill_(-3)


def _set(linear: torch.nn.Linear, matrix: Tensor, centre: Tensor) -> None:
    """Set the layer to ``(x - centre) @ matrix``."""
    linear.weight.copy_(matrix.T)
    linear.bias.copy_(-(centre @ matrix))


def _whitening(rows: Tensor) -> Tensor:
    """Regularised whitening matrix [V, V] of the rows."""
    values, vectors = torch.linalg.eigh(torch.cov(rows.T))
    return vectors / (values.clamp(min=0) + SHRINK * values.mean()).sqrt() @ vectors.T


@torch.no_grad()
def initialise(segmenter: Segmenter) -> None:
    """Align a built-in decoder on ``PICTURES`` rendered images; deterministic for given encoders."""
    rng = np.random.default_rng(0)
    patches, words, background = [], [], []
    for first in range(0, PICTURES, BATCH):
        drawn = [draw(sample(FIRST_SEED + first + k, Recipe() if k % 4 else EVERYTHING)) for k in range(BATCH)]
        features = segmenter.image_features(as_tensor(np.stack([d.rgb for d in drawn])))[-1][:, 1:]
        for own, d in zip(features, drawn, strict=True):
            under = torch.from_numpy(d.labels[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH].reshape(-1))
            text = segmenter.encode_texts([phrase(item, 0.12, rng) for item in d.picture.items])
            for k, vector in enumerate(text):
                patches.append(own[under == k + 1])
                words.append(vector.expand(len(patches[-1]), -1))
            background.append(own[under == 0][::3])
    align(segmenter, torch.cat(patches), torch.cat(words), torch.cat(background))
