"""Exemplars in the base's training: pseudo-words of another image of an object stand in place of its words.

The stage "words" comes first. It trains the pseudo-words alone to be read by the text encoder as the names of what is
visible; the base is frozen and its UNet is not run.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTextModel

from cloisonne.methods.reco import Vocabulary, caption_ids, region_ids
from cloisonne.models.adapters.paint_by_example import normalised
from cloisonne.models.adapters.pseudo_words import PseudoWords, encoded, text_places
from cloisonne.train.base.captions import CaptionTokens, padded
from cloisonne.train.base.holes import NULL, Hole, hole
from cloisonne.train.base.latents import LatentStore
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.exemplar.augment import augmented, crop
from cloisonne.train.loop import CPU, Stage
from cloisonne.train.precision import autocast
from cloisonne.train.prefetch import Prefetch, processes
from cloisonne.world.draw import draw
from cloisonne.world.glyphs import COLOURS, CORE, TRAINING, words_of
from cloisonne.world.picture import BACKGROUNDS, Picture, alone
from cloisonne.world.words import caption, phrase

DESCRIBED = 0.75
"""Fraction of the items of these images that pseudo-words describe; the others have their phrase."""
UNNAMED = 0.7
"""Fraction of these images whose caption names no object."""
DETAILED = 0.6
"""Fraction of the exemplars with the pseudo-words of details; the others have those of the pooled output alone."""
SAME_STYLE = 0.7
"""Fraction of the exemplars in the style of the image; the others are natural."""
AUGMENTED = 0.6
SIDE = 64
"""Side of an exemplar, in pixels."""
REGRESSED = 16_000
"""Images of the stage "words"."""
OUTER, FROZEN = ("project", "queries"), ("exemplar.vision",)
"""Names of the pseudo-words' parameters that AdamW trains, and of those that are frozen."""
BATCH = 64
FIRST_PADDING = 12
"""Tokens from here on are padding in the text of every name and of every exemplar."""
_RECOLOURABLE = tuple(c.char for c in CORE if c.recolourable)
_CORE = tuple(c.char for c in CORE)


@dataclass(frozen=True, kw_only=True)
class Exemplar:
    """An exemplar in a text: CLIP's input [side, side, 3] uint8, and the tokens that its pseudo-words replace."""

    image: np.ndarray
    places: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ExemplarText:
    """Token ids with exemplars; ids at their places stand for nothing. hole: what is to be filled in, if anything."""

    tokens: CaptionTokens
    exemplars: tuple[Exemplar, ...] = ()
    hole: Hole | None = None


def view(char: str, colour: str | None, style: str, rng: np.random.Generator) -> np.ndarray:
    """Another image of an object, uint8 [SIDE, SIDE, 3]: on another background, mirrored or rotated, and cropped."""
    drawn = draw(alone(char, colour, BACKGROUNDS, rng, TRAINING_SEEDS, style))
    rgb = crop(drawn.rgb, drawn.boxes()[0], SIDE, rng)
    return augmented(rgb, rng) if rng.random() < AUGMENTED else rgb


def exemplar_text(
    store: LatentStore, index: int, rng: np.random.Generator, tokenizer: Any, v: Vocabulary, words: int, details: int
) -> ExemplarText:
    """The ReCo sequence of a stored image, with exemplars in place of phrases.

    words, details: numbers of pseudo-words; see :class:`PseudoWords`.
    """
    picture, boxes = store.picture(index), store.boxes(index)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in boxes]
    order = [int(k) for k in np.argsort([-a for a in areas])]
    described = [k for k in order if rng.random() < DESCRIBED] or [order[0]]
    head = caption_ids(tokenizer, v, caption(picture, boxes, rng, objects=rng.random() >= UNNAMED))
    parts: list[tuple[int, list[int]]] = []
    exemplars: list[Exemplar] = []
    length = len(head)
    for k in order:
        if k in described:
            ids = [v.position(value) for value in boxes[k]] + [v.start]
            exemplar = _exemplar(picture, k, length + len(ids), rng, words, details)
            ids += [v.end] * (len(exemplar.places) + 1)
            if exemplar.places[-1] < v.length - 1:
                exemplars.append(exemplar)
        else:
            ids = region_ids(tokenizer, v, boxes[k], phrase(picture.items[k], areas[k], rng))
        parts.append((k, ids))
        length += len(ids)
    return ExemplarText(tokens=padded(head, parts, v, placed=True), exemplars=tuple(exemplars))


def hole_text(
    store: LatentStore, index: int, rng: np.random.Generator, v: Vocabulary, words: int, details: int
) -> ExemplarText:
    """A hole in a stored image, and the text of an exemplar of the object in it, or the empty text."""
    picture, boxes = store.picture(index), store.boxes(index)
    k = int(rng.integers(len(boxes)))
    made = hole(store, index, boxes[k], rng)
    if rng.random() < NULL:
        return ExemplarText(tokens=padded([v.start], [], v, placed=False), hole=made)
    exemplar = _exemplar(picture, k, 1, rng, words, details)
    part = (k, [v.end] * (len(exemplar.places) + 1))
    return ExemplarText(tokens=padded([v.start], [part], v, placed=False), exemplars=(exemplar,), hole=made)


def _exemplar(picture: Picture, k: int, first: int, rng: np.random.Generator, words: int, details: int) -> Exemplar:
    """An exemplar of item k whose pseudo-words stand from the token ``first`` on."""
    count = words + details * bool(rng.random() < DETAILED)
    style = picture.style if rng.random() < SAME_STYLE else "natural"
    item = picture.items[k]
    return Exemplar(image=view(item.char, item.colour, style, rng), places=tuple(range(first, first + count)))


def stage(
    words: PseudoWords,
    text: CLIPTextModel,
    tokenizer: Any,
    pictures: int,
    device: torch.device = CPU,
) -> Stage:
    """The stage "words": squared error of the hidden states of an exemplar's text to those of its name and colour.

    pictures: the budget.
    """
    text.set_attn_implementation("eager")
    torch.nn.Module.to(text, device).eval().requires_grad_(False)
    return Stage(
        name="words",
        device=device,
        modules={"exemplar": words.train()},
        loss=_NamingLoss(words, text, tokenizer, device).loss,
        minutes=0.0,
        pictures=pictures,
        pictures_per_step=BATCH,
        lr=2e-3,
        outer=OUTER,
        frozen=FROZEN,
        ema=0.995,
    )


class _NamingLoss:
    def __init__(self, words: PseudoWords, text: CLIPTextModel, tokenizer: Any, device: torch.device) -> None:
        self.words, self.text, self.tokenizer, self.device = words, text, tokenizer, device
        self.examples = Prefetch(_named_examples, processes(device))
        self.vocabulary = Vocabulary.of(tokenizer)

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        images, phrases = self.examples(step)
        pixels = normalised(images).to(self.device)
        named = self.tokenizer(phrases, padding="max_length", add_special_tokens=True, return_tensors="pt").input_ids
        named = named.to(self.device)
        v, words = self.vocabulary, self.words
        total = words.words + words.details
        counts = torch.where(torch.rand(len(images)) < DETAILED, total, words.words)
        places = text_places(counts, total, v.length)
        ids = torch.full_like(named, v.end)
        ids[:, 0] = v.start
        with torch.no_grad(), autocast(self.device):
            target = self.text(named).last_hidden_state.float()
        with autocast(self.device):
            pseudo = words(words.image_features(pixels))
            read = encoded(self.text, ids, pseudo.flatten(0, 1), places.to(self.device))
        error = (read.float() - target).square().mean(-1)
        padding = error[:, FIRST_PADDING:].mean()
        short = (named[:, words.words + 1] == v.end).float()
        content = (error[:, 1 : words.words + 1].mean(1) * short).sum() / short.sum().clamp(min=1)
        return padding + content, {"padding": float(padding.detach()), "content": float(content.detach())}


def _named_examples(step: int) -> tuple[np.ndarray, list[str]]:
    """Images uint8 [n, 64, 64, 3] and their phrases: half of them core glyphs."""
    rng = np.random.default_rng([step, 43])
    images, phrases = [], []
    for k in range(BATCH):
        chars = _CORE if k % 2 else TRAINING
        char = chars[int(rng.integers(len(chars)))]
        coloured = char in _RECOLOURABLE and rng.random() < 0.6
        colour = COLOURS[int(rng.integers(len(COLOURS)))] if coloured else None
        images.append(view(char, colour, "natural", rng))
        phrases.append(f"{colour or 'a'} {words_of(char)[0]}")
    return np.stack(images), phrases
