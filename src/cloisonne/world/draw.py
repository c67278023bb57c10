"""Renders a world image with its ground truth: the visible object at each pixel, object masks and boxes."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cloisonne.world.atlas import atlas
from cloisonne.world.backgrounds import paint
from cloisonne.world.picture import Item, Picture
from cloisonne.world.styles import stylise

# Hue in degrees, minimum and maximum saturation, and brightness factor of each colour.
_HUES = {
    "red": (2, 0.75, 1.0, 0.95),
    "orange": (28, 0.8, 1.0, 1.05),
    "yellow": (52, 0.75, 1.0, 1.1),
    "green": (125, 0.55, 0.9, 0.85),
    "blue": (218, 0.6, 0.95, 1.0),
    "purple": (276, 0.5, 0.8, 0.9),
    "pink": (332, 0.35, 0.55, 1.15),
}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A rendered image and its ground truth, in pixels."""

    picture: Picture
    rgb: np.ndarray
    """uint8 [h, w, 3]."""
    labels: np.ndarray
    """uint8 [h, w]: 0 = background, k + 1 = item k is visible."""
    masks: np.ndarray
    """bool [items, h, w]: full extent of each item, occluded parts included."""

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Tight box of each item as fractions (x0, y0, x1, y1), occluded parts included."""
        return [_tight_box(mask) for mask in self.masks]

    def visible(self) -> list[float]:
        """Visible fraction of each item, 0 to 1."""
        return [float((self.labels == k + 1).sum() / max(1, mask.sum())) for k, mask in enumerate(self.masks)]


def draw(picture: Picture, width: int = 128, height: int = 128) -> Drawn:
    """Render a picture at a size in pixels; the same seed gives the same bytes."""
    rng = np.random.default_rng([picture.seed, 20261])
    canvas = paint(picture.background, rng, (height, width))
    labels = np.zeros((height, width), np.uint8)
    masks = np.zeros((len(picture.items), height, width), bool)
    for k, item in enumerate(picture.items):
        layer, window = _layer(item, rng, width, height)
        alpha = layer[..., 3:] / 255
        canvas[window] = canvas[window] * (1 - alpha) + layer[..., :3]
        masks[k][window] = alpha[..., 0] > 0.5
        labels[masks[k]] = k + 1
    rgb = np.clip(np.rint(stylise(canvas, picture.style)), 0, 255).astype(np.uint8)
    return Drawn(picture=picture, rgb=rgb, labels=labels, masks=masks)


def _layer(item: Item, rng: np.random.Generator, width: int, height: int) -> tuple[np.ndarray, tuple[slice, slice]]:
    """The transformed sprite of an item, premultiplied RGBA float32 [h, w, 4], and its window of the canvas.

    The sprite has the area of the item's box.
    """
    sprite = _sprite(item.char, item.colour)
    tall, wide = sprite.shape[:2]
    x0, y0, x1, y1 = item.box
    stretch = np.exp(rng.uniform(-0.1, 0.1) / 2)
    aspect = float(np.clip(wide / tall, 0.5, 2))
    side_w, side_h = (x1 - x0) * width * np.sqrt(aspect) * stretch, (y1 - y0) * height / np.sqrt(aspect) / stretch
    turn = np.deg2rad(item.angle)
    reach = (
        abs(np.cos(turn)) * side_w + abs(np.sin(turn)) * side_h,
        abs(np.sin(turn)) * side_w + abs(np.cos(turn)) * side_h,
    )
    centre = [
        min(max((a + b) / 2 * n, min(r / 2, n / 2)), max(n - r / 2, n / 2))
        for a, b, n, r in ((x0, x1, width, reach[0]), (y0, y1, height, reach[1]))
    ]
    if side_w < wide / 2:
        sprite = cv2.resize(sprite, (max(1, wide // 2), max(1, tall // 2)), interpolation=cv2.INTER_AREA)
        tall, wide = sprite.shape[:2]
    across = np.array([np.cos(turn), -np.sin(turn)]) * side_w / wide * (-1 if item.flip else 1)
    down = np.array([np.sin(turn), np.cos(turn)]) * side_h / tall
    matrix = np.stack([across, down], 1)
    offset = np.asarray(centre) - matrix @ np.array([wide / 2, tall / 2]) + matrix @ np.array([0.5, 0.5]) - 0.5
    affine = np.concatenate([matrix, offset[:, None]], 1).astype(np.float32)
    window = _window(centre, reach, width, height)
    layer = cv2.warpAffine(
        sprite,
        affine,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0, 0, 0, 0),
    )
    return layer[window], window


def _window(centre: Sequence[float], reach: Sequence[float], width: int, height: int) -> tuple[slice, slice]:
    """Row and column slices that cover an object of this size and centre, plus a margin of 2 px."""
    (x, y), (wide, tall) = centre, reach
    columns = slice(max(0, int(x - wide / 2) - 2), min(width, int(x + wide / 2) + 3))
    return slice(max(0, int(y - tall / 2) - 2), min(height, int(y + tall / 2) + 3)), columns


@functools.lru_cache(maxsize=4096)
def _sprite(char: str, colour: str | None) -> np.ndarray:
    sprite = cv2.copyMakeBorder(atlas()[char].astype(np.float32), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    return sprite if colour is None else _recolour(sprite, colour)


def _recolour(sprite: np.ndarray, colour: str) -> np.ndarray:
    """Change the hue of coloured and mid-grey parts; white highlights and black lines stay."""
    hue, least, most, bright = _HUES[colour]
    alpha = sprite[..., 3:] / 255
    rgb = np.divide(sprite[..., :3] / 255, alpha, out=np.zeros_like(sprite[..., :3]), where=alpha > 0)
    hsv = cv2.cvtColor(np.clip(rgb, 0, 1), cv2.COLOR_RGB2HSV)
    value, saturation = hsv[..., 2], hsv[..., 1]
    tinted = np.clip((saturation - 0.12) / 0.2, 0, 1) + np.clip((0.9 - value) / 0.1, 0, 1) * np.clip(
        (value - 0.15) / 0.15, 0, 1
    )
    tinted = np.clip(tinted, 0, 1)[..., None]
    target = np.stack(
        [np.full_like(value, hue), np.clip(saturation, least, most), np.clip(np.maximum(value, 0.45) * bright, 0, 1)],
        -1,
    )
    coloured = cv2.cvtColor(target.astype(np.float32), cv2.COLOR_HSV2RGB)
    out = rgb * (1 - tinted) + coloured * tinted
    return np.concatenate([out * alpha * 255, sprite[..., 3:]], -1).astype(np.float32)


def _tight_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    h, w = mask.shape
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if not len(rows):
        return (0.0, 0.0, 0.0, 0.0)
    return (columns[0] / w, rows[0] / h, (columns[-1] + 1) / w, (rows[-1] + 1) / h)
