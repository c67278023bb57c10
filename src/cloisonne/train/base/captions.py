"""Token ids of a training image, and the object that each token describes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cloisonne.methods.baselines import region_in_words
from cloisonne.methods.reco import Vocabulary, caption_ids, normalise, region_ids
from cloisonne.train.base.latents import LatentStore
from cloisonne.world.words import caption, phrase

SHARES = {"reco": 0.45, "words": 0.25, "caption": 0.2, "null": 0.1}
"""Fraction of the images per caption mode. "reco": caption and ReCo regions; "words": caption and regions with their
place in words; "caption": caption only; "null": empty text."""


@dataclass(frozen=True)
class CaptionTokens:
    """ids: [L]. owners: [L], k + 1 for a token of item k, else 0. placed: whether the text gives positions."""

    ids: list[int]
    owners: list[int]
    placed: bool


def caption_tokens(
    store: LatentStore, index: int, mode: str, rng: np.random.Generator, tokenizer: Any, v: Vocabulary
) -> CaptionTokens:
    """Token ids of a stored image in a mode of ``SHARES``; items in descending area, as at inference.

    A style is always named, so that what is drawn from a text without one is natural.
    """
    if mode == "null":
        return padded(caption_ids(tokenizer, v, ""), [], v, placed=False)
    picture, boxes = store.picture(index), store.boxes(index)
    text = caption(picture, boxes, rng, objects=True if mode == "caption" else None)
    if mode == "caption":
        return padded(caption_ids(tokenizer, v, text), [], v, placed=False)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]
    phrases = [phrase(item, area, rng) for item, area in zip(picture.items, areas, strict=True)]
    order = [int(k) for k in np.argsort([-a for a in areas])]
    if mode == "reco":
        parts = [(k, region_ids(tokenizer, v, boxes[k], phrases[k])) for k in order]
        return padded(caption_ids(tokenizer, v, text), parts, v, placed=True)
    # The tokenizer splits at commas and spaces, so the tokens of the whole text are those of its parts.
    parts = [(k, _ids(tokenizer, f", {region_in_words(boxes[k], phrases[k])}")) for k in order]
    return padded([v.start, *_ids(tokenizer, text)], parts, v, placed=True)


def _ids(tokenizer: Any, text: str) -> list[int]:
    comma = ", " if text.startswith(", ") else ""
    return tokenizer(comma + normalise(text), add_special_tokens=False, verbose=False).input_ids


def padded(head: list[int], parts: list[tuple[int, list[int]]], v: Vocabulary, *, placed: bool) -> CaptionTokens:
    """Token ids of a head and of each item's part, in the given order, cut and padded to the length of a text."""
    ids, owners = list(head), [0] * len(head)
    for k, part in parts:
        ids += part
        owners += [k + 1] * len(part)
    limit = v.length - 1
    ids, owners = ids[:limit], owners[:limit]
    rest = v.length - len(ids)
    return CaptionTokens(ids + [v.end] * rest, owners + [0] * rest, placed)
