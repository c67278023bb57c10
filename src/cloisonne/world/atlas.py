"""Sprites of the glyphs: rendered once at the font's bitmap size, cropped to the visible part and resized to 64 px.

Only training, tests and evaluation need the font. It is searched in ``CLOISONNE_FONT``, in ``.font`` of the working
folder and its parents, and in the system's font folders. ``CLOISONNE_ATLAS`` names a cached atlas to use instead.
"""

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cloisonne.cache_folder import cache_folder
from cloisonne.errors import ImageError
from cloisonne.world.glyphs import HELD_OUT, TRAINING

SPRITE = 64
"""Longer side of a sprite in pixels."""

_BITMAP_SIZE = 109  # the only bitmap size of Noto Color Emoji


def find_font() -> Path | None:
    """Path of the emoji font, or None."""
    named = os.environ.get("CLOISONNE_FONT")
    places = [Path(named)] if named else []
    here = Path.cwd()
    places += [
        folder / ".font" / "NotoColorEmoji.ttf" for folder in (here, *here.parents, Path(__file__).resolve().parents[3])
    ]
    places += [
        Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
        Path("/usr/share/fonts/noto/NotoColorEmoji.ttf"),
    ]
    return next((place for place in places if place.is_file()), None)


def draw_sprites(font: Path, chars: Sequence[str]) -> np.ndarray:
    """Premultiplied RGBA sprites, uint8 [n, 64, 64, 4]; the visible part is centred and its longer side is 64 px.

    Raises ImageError if the font has no glyph for a character.
    """
    face = ImageFont.truetype(str(font), _BITMAP_SIZE)
    sprites = np.zeros((len(chars), SPRITE, SPRITE, 4), np.uint8)
    for k, char in enumerate(chars):
        canvas = Image.new("RGBA", (180, 160), (0, 0, 0, 0))
        ImageDraw.Draw(canvas).text((20, 16), char, font=face, embedded_color=True)
        box = canvas.getchannel("A").point([255 if a > 40 else 0 for a in range(256)]).getbbox()
        if box is None:
            raise ImageError(
                f"The font {font} draws nothing for U+{ord(char):04X}: use the pinned version (make font)."
            )
        crop = np.asarray(canvas.crop(box), np.float32)
        crop[..., :3] *= crop[..., 3:] / 255
        scale = SPRITE / max(crop.shape[:2])
        size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
        small = np.stack(
            [
                np.asarray(
                    Image.fromarray(crop[..., c]).resize(
                        size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
                    )
                )
                for c in range(4)
            ],
            -1,
        )
        y, x = (SPRITE - size[1]) // 2, (SPRITE - size[0]) // 2
        sprites[k, y : y + size[1], x : x + size[0]] = np.clip(small.round(), 0, 255)
    return sprites


@functools.cache
def atlas() -> dict[str, np.ndarray]:
    """Sprites of all training and held-out glyphs: premultiplied RGBA uint8 [h, w, 4], cropped to the visible part.

    Rendered from the font once and cached as ``.npz``. Raises ImageError if neither font nor cache exists.
    """
    chars = TRAINING + HELD_OUT
    key = hashlib.sha256("".join(chars).encode()).hexdigest()[:12]
    cached = Path(os.environ.get("CLOISONNE_ATLAS") or cache_folder() / f"atlas-{key}.npz")
    if cached.is_file():
        sprites = np.load(cached)["sprites"]
    else:
        font = find_font()
        if font is None:
            raise ImageError(
                "No emoji font was found to render world images: run `make font`, install Debian's "
                "fonts-noto-color-emoji, or set CLOISONNE_FONT to NotoColorEmoji.ttf."
            )
        sprites = draw_sprites(font, chars)
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_name(f"{cached.stem}.{os.getpid()}.npz")
        np.savez_compressed(partial, sprites=sprites)
        os.replace(partial, cached)
    return {char: _tight(sprite) for char, sprite in zip(chars, sprites, strict=True)}


def _tight(sprite: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(sprite[..., 3].max(1) > 20)[0], np.nonzero(sprite[..., 3].max(0) > 20)[0]
    return np.ascontiguousarray(sprite[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
