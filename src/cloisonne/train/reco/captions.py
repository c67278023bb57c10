"""Token ids of a training image: its caption and a sample of its regions as one ReCo sequence."""

from typing import Any

import numpy as np

from cloisonne.methods.reco import Vocabulary, normalise, sequence
from cloisonne.scene.shapes.geometry import Box, area
from cloisonne.train.datasets.training_image import TrainingImage


def sequence_ids(
    tokenizer: Any, v: Vocabulary, image: TrainingImage, rng: np.random.Generator, *, max_regions: int, empty: float
) -> list[int]:
    """Token ids [L]. With probability ``empty`` the sequence has neither caption nor regions.

    Regions are in sampling order; a region that does not fit completely is dropped.
    """
    if rng.random() < empty:
        return sequence(tokenizer, "", (), vocabulary=v)[0]
    caption = _truncated(tokenizer, v, image.caption)
    return sequence(tokenizer, caption, sampled_regions(image.regions, rng, max_regions), vocabulary=v)[0]


def sampled_regions(
    regions: tuple[tuple[Box, str], ...], rng: np.random.Generator, most: int
) -> tuple[tuple[Box, str], ...]:
    """Sample at most ``most`` regions without replacement, weighted by the square root of their area."""
    if not regions:
        return ()
    roots = np.sqrt([area(box) for box, _ in regions])
    indices = rng.choice(len(regions), min(most, len(regions)), replace=False, p=roots / roots.sum())
    return tuple(regions[int(k)] for k in indices)


def _truncated(tokenizer: Any, v: Vocabulary, caption: str) -> str:
    """The caption without its last words if it exceeds the text length of the model."""
    words = normalise(caption).split()[: v.length]
    while len(tokenizer(" ".join(words), add_special_tokens=False, verbose=False).input_ids) > v.length - 2:
        words.pop()
    return " ".join(words)
