"""Texts of world images: captions, region phrases, and the training corpus of the tokenizer."""

from collections.abc import Iterator

import numpy as np

from cloisonne.scene.shapes.geometry import Box
from cloisonne.scene.shapes.place_words import described_place, place
from cloisonne.world.glyphs import CORE, TRAINING, words_of
from cloisonne.world.picture import Item, Picture, Recipe, sample

BACKGROUND_WORDS = {
    "meadow": ("in a meadow", "on a green meadow", "in a grassy field", "on the grass"),
    "beach": ("on a beach", "on the beach", "at the seaside", "on a sandy beach"),
    "night": ("in the night sky", "at night", "under the stars", "in a starry night"),
    "desert": ("in the desert", "in a desert", "among the dunes", "on desert sand"),
    "snow": ("in the snow", "in a snowy landscape", "on snow", "in winter"),
    "table": ("on a wooden table", "on a table", "on wooden planks", "on a brown wooden table"),
    "bricks": ("on a brick wall", "in front of a brick wall", "by a wall of bricks", "against a red brick wall"),
    "ocean": ("under the ocean", "under water", "in the sea", "in the deep blue sea"),
    "city": ("in a city", "in the city", "on a city street", "in front of tall buildings"),
    "room": ("in a room", "inside a house", "in a living room", "indoors"),
    "studio": ("on a plain background", "in a studio", "before a plain wall", "on a simple background"),
}
STYLE_WORDS = {
    "natural": ("",),
    "pencil sketch": ("a pencil sketch of", "in the style of a pencil sketch"),
    "pixel art": ("pixel art of", "in the style of pixel art"),
    "mosaic": ("a mosaic of", "in the style of a mosaic"),
    "blueprint": ("a blueprint of", "in the style of a blueprint"),
    "sepia print": ("a sepia print of", "in the style of a sepia print"),
    "watercolour": ("a watercolour of", "in the style of a watercolour"),
    "neon on black": ("neon lines of", "in the style of neon on black"),
}
OPENINGS = ("", "", "", "a picture of ", "an image of ", "there is ", "a scene with ")
SIZES = ("large", "big", "small")
JOINS = (" and ", " and ", " with ", " next to ", " beside ")


def background_words(kind: str, rng: np.random.Generator) -> str:
    """A random phrase for a background: "on a beach"."""
    return _pick(rng, BACKGROUND_WORDS[kind])


def phrase(item: Item, area: float, rng: np.random.Generator) -> str:
    """A noun phrase for an object that fills ``area`` of the canvas: "a small red car"."""
    words = words_of(item.char)
    noun = words[0] if rng.random() < 0.7 else _pick(rng, words)
    adjectives = []
    if rng.random() < 0.25:
        adjectives.append(_pick(rng, SIZES[:2]) if area > 0.16 else SIZES[2] if area < 0.08 else "")
    if item.colour:
        adjectives.append(item.colour)
    body = " ".join([a for a in adjectives if a] + [noun])
    opening = rng.random()
    if opening < 0.15:
        return body
    return f"the {body}" if opening < 0.25 else f"{'an' if body[0] in 'aeiou' else 'a'} {body}"


def caption(
    picture: Picture,
    boxes: list[Box],
    rng: np.random.Generator,
    *,
    objects: bool | None = None,
) -> str:
    """A random caption, which names the style of an image that is not natural.

    Args:
        picture: Content of the image.
        boxes: Box of each item.
        rng: Random generator.
        objects: Whether to name the objects; None names them in three of four captions.
    """
    where = background_words(picture.background, rng)
    named = rng.random() < 0.75 if objects is None else objects
    text = where
    if named:
        order = rng.permutation(len(picture.items))
        things = []
        for k in order:
            box = boxes[k]
            thing = phrase(picture.items[k], (box[2] - box[0]) * (box[3] - box[1]), rng)
            things.append(f"{thing} in the {place(box)}" if rng.random() < 0.25 else thing)
        joined = things[0] if len(things) == 1 else ", ".join(things[:-1]) + _pick(rng, JOINS) + things[-1]
        text = f"{where}, {joined}" if rng.random() < 0.25 else f"{_pick(rng, OPENINGS)}{joined} {where}"
    words = _pick(rng, STYLE_WORDS[picture.style])
    if not words:
        return text
    return f"{words} {text}" if words.endswith((" of", "of")) else f"{text}, {words}"


def corpus(count: int = 12000) -> Iterator[str]:
    """Sentences of the whole grammar, with every style and all names of every glyph."""
    recipe = Recipe(styled=0.3, held_out=None)
    for seed in range(count):
        rng = np.random.default_rng([seed, 20262])
        picture = sample(seed, recipe)
        boxes = [item.box for item in picture.items]
        yield caption(picture, boxes, rng)
        for item, box in zip(picture.items, boxes, strict=True):
            yield f"{described_place(box)}, {phrase(item, 0.1, rng)}"
    names = [word for char in TRAINING for word in words_of(char)] + [word for row in CORE for word in row.words]
    for _ in range(5):
        yield from (f"a {name}" for name in names)


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
