"""Where the training of ``clipseg`` begins: patches and words that belong together already meet.

A decoder that starts at random finds nothing for thousands of pictures, because the towers' features have a large mean
and few strong directions. Here its first product, of a text's and a patch's projections, is set by canonical
correlation analysis (Hotelling 1936) of the patches of objects with the words for them.
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
"""Share of the mean variance that is added to all directions before they are divided by it."""


@torch.no_grad()
def begin_aligned(segmenter: Segmenter, patches: Tensor, words: Tensor, background: Tensor) -> None:
    """Set the decoder's first projections and its last layer.

    patches [n, V] of the last layer that is read, on objects; words [n, D] of what is seen there; background [m, V],
    patches of no object.
    """
    decoder = segmenter.module.decoder
    every = torch.cat([patches, background]).double()
    centre, spread = every.mean(0), _whitening(every)
    told, told_spread = words.double().mean(0), _whitening(words.double())
    met = ((patches.double() - centre) @ spread).T @ ((words.double() - told) @ told_spread) / len(patches)
    left, strength, right = torch.linalg.svd(met, full_matrices=False)
    width = decoder.film_mul.weight.shape[0]
    strength = strength[:width].sqrt()
    reduce = (spread @ left[:, :width]) * strength
    film = (told_spread @ right.T[:, :width]) * strength
    # Half of the products count against the others: normalisation takes away what all channels have in common.
    signs = torch.ones(width, dtype=reduce.dtype)
    signs[1::2] = -1
    _set(decoder.reduces[0], reduce * signs, centre)
    _set(decoder.film_mul, film, told)
    # What else is added begins at or near nothing, so that it does not drown them.
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
    """The layer as ``(x - centre) @ matrix``."""
    linear.weight.copy_(matrix.T)
    linear.bias.copy_(-(centre @ matrix))


def _whitening(rows: Tensor) -> Tensor:
    """[V, V]: what makes the rows' directions of one variance, weak ones less."""
    values, vectors = torch.linalg.eigh(torch.cov(rows.T))
    return vectors / (values.clamp(min=0) + SHRINK * values.mean()).sqrt() @ vectors.T


@torch.no_grad()
def begin(segmenter: Segmenter) -> None:
    """Align a decoder of the built-in kind by ``PICTURES`` drawn pictures; the same towers give the same numbers."""
    rng = np.random.default_rng(0)
    patches, words, background = [], [], []
    for first in range(0, PICTURES, BATCH):
        drawn = [draw(sample(FIRST_SEED + first + k, Recipe() if k % 4 else EVERYTHING)) for k in range(BATCH)]
        seen = segmenter.seen(as_tensor(np.stack([d.rgb for d in drawn])))[-1][:, 1:]
        for own, d in zip(seen, drawn, strict=True):
            under = torch.from_numpy(d.labels[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH].reshape(-1))
            told = segmenter.words([phrase(item, 0.12, rng) for item in d.picture.items])
            for k, said in enumerate(told):
                patches.append(own[under == k + 1])
                words.append(said.expand(len(patches[-1]), -1))
            background.append(own[under == 0][::3])
    begin_aligned(segmenter, torch.cat(patches), torch.cat(words), torch.cat(background))
