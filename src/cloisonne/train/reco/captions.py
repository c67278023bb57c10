"""What a training picture is told: a caption and a sample of its regions as one ReCo sequence."""

from typing import Any

import numpy as np

from cloisonne.methods.reco import Vocabulary, normalise, sequence
from cloisonne.scene.shapes.geometry import Box, area
from cloisonne.train.datasets.shown import Shown


def tell(
    tokenizer: Any, v: Vocabulary, shown: Shown, rng: np.random.Generator, *, max_regions: int, empty: float
) -> list[int]:
    """Ids [L]. With probability ``empty`` nothing is said, neither caption nor regions.

    Regions come in the order in which they are drawn; one that does not fit whole is left out.
    """
    if rng.random() < empty:
        return sequence(tokenizer, "", (), vocabulary=v)[0]
    caption = _cut(tokenizer, v, shown.caption)
    return sequence(tokenizer, caption, chosen(shown.regions, rng, max_regions), vocabulary=v)[0]


def chosen(regions: tuple[tuple[Box, str], ...], rng: np.random.Generator, most: int) -> tuple[tuple[Box, str], ...]:
    """At most ``most`` regions, none twice, drawn with probability proportional to the root of their area."""
    if not regions:
        return ()
    roots = np.sqrt([area(box) for box, _ in regions])
    drawn = rng.choice(len(regions), min(most, len(regions)), replace=False, p=roots / roots.sum())
    return tuple(regions[int(k)] for k in drawn)


def _cut(tokenizer: Any, v: Vocabulary, caption: str) -> str:
    """The caption without the last words, if it does not fit the model's texts."""
    words = normalise(caption).split()[: v.length]
    while len(tokenizer(" ".join(words), add_special_tokens=False, verbose=False).input_ids) > v.length - 2:
        words.pop()
    return " ".join(words)
