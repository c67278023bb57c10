"""A given image to change: decoded to RGB, and written back in its own mode.

Outside a mask the result has the source's values, in the source's mode. Size, orientation, alpha, palette, colour space
and resolution are preserved.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloisonne.errors import ImageError
from cloisonne.scene.io.colour_space import preserved_metadata
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.images import opened, orientation, turned_back, turned_upright
from cloisonne.scene.shapes.masks import Mask, extent

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")

ITERATIONS = 40
"""Jacobi iterations; the correction reaches about so many pixels to the square root."""
EDGE = 48
"""Grey levels up to which a difference at the border is corrected; it counts less above, and nothing at twice this."""

_LUMINANCE = np.array([0.299, 0.587, 0.114])
"""Weights of R, G and B of ITU-R BT.601, as in Pillow."""


@dataclass(frozen=True, eq=False)
class Source:
    """A decoded image.

    Attributes:
        rgb: uint8 [H, W, 3], upright, without alpha; the colour profile is not applied.
        upright: the image in its own mode, upright.
        orientation: EXIF orientation that it is stored with, 1 to 8.
        metadata: entries of ``Image.info`` to preserve: colour space, resolution, ``exif``, ``transparency``.
    """

    rgb: NDArray[np.uint8]
    upright: Image.Image
    orientation: int
    metadata: Mapping[str, Any]

    @classmethod
    def load(cls, picture: ImageRef, role: str = "background") -> "Source":
        """Open an image to change. Raises ImageError if it cannot be read, or could not be written back unchanged."""
        stored = opened(picture, role, exact=True)
        if stored.mode not in MODES:
            raise ImageError(f"The {role} {picture} has the mode {stored.mode}; convert it to RGB first.")
        turn = orientation(stored)
        upright = turned_upright(stored, turn)
        exif = stored.info.get("exif") or (stored.getexif().tobytes() if turn != 1 else None)
        metadata = preserved_metadata({**stored.info, "exif": exif or None})
        return cls(rgb_pixels(upright), upright, turn, metadata)

    @property
    def height(self) -> int:
        """H, height of the upright image in pixels."""
        return self.rgb.shape[0]

    @property
    def width(self) -> int:
        """W, width of the upright image in pixels."""
        return self.rgb.shape[1]

    def pasted(self, painted: NDArray[np.uint8], mask: Mask) -> Image.Image:
        """Paste ``painted`` into the source where ``mask`` is above 0.

        Alpha does not change. Colours become the nearest ones of the source's mode (greys, or the palette's).

        Args:
            painted: RGB uint8 [H, W, 3], upright.
            mask: [H, W] in [0, 1]; values between 0 and 1 blend. Where it is 0 every value stays.

        Returns:
            The image in the source's mode and orientation, with its metadata in ``info``.
        """
        inside = mask > 0
        own = np.array(self.upright)
        if self.upright.mode == "P":
            nearest = self._in_palette(_blended(self.rgb, painted, mask), own, inside)
            image = self.upright.copy()
            image.frombytes(nearest.tobytes())
        else:
            image = Image.fromarray(self._keyed(own, self._in_mode(own, painted, mask, inside), inside))
        image = turned_back(image, self.orientation)
        image.info.clear()
        image.info.update(self.metadata)
        return image

    def _in_mode(
        self, own: NDArray[Any], painted: NDArray[np.uint8], mask: Mask, inside: NDArray[np.bool_]
    ) -> NDArray[Any]:
        """``own`` with its colours, but not its alpha, blended with ``painted``."""
        grey = painted.astype(np.float64) @ _LUMINANCE
        if self.upright.mode == "1":
            return np.where(inside, _blended(self.rgb[..., 0], grey, mask) >= 128, own)
        result = own.copy()
        if self.upright.mode in ("RGB", "RGBA"):
            result[..., :3][inside] = _blended(own[..., :3], painted, mask)[inside]
        elif self.upright.mode == "LA":
            result[..., 0][inside] = _blended(own[..., 0], grey, mask)[inside]
        else:
            scale = 257 if self.upright.mode == "I;16" else 1
            result[inside] = _blended(own, grey * scale, mask)[inside]
        return result

    def _keyed(self, own: NDArray[Any], result: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[Any]:
        """Preserve the transparency of a source whose transparent pixels are marked by a key colour."""
        if "transparency" not in self.metadata:
            return result
        key = np.array(self.metadata["transparency"])
        if own.dtype == bool:
            key = key > 0
        was, became = (_all_channels(np.equal(values, key)) for values in (own, result))
        result[was] = own[was]
        channel = result[..., 0] if result.ndim == 3 else result
        channel[became & ~was & inside] ^= True
        return result

    def _in_palette(
        self, blended: NDArray[np.uint8], own: NDArray[np.uint8], inside: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """Palette indices; inside, of the nearest colours with the pixel's opacity."""
        palette = np.array(self.upright.getpalette("RGB")).reshape(-1, 3)
        alpha = self._palette_alpha()
        result = own.copy()
        for opacity in np.unique(alpha[own[inside]]):
            candidates = np.flatnonzero(alpha[: len(palette)] == opacity)
            where = inside & (alpha[own] == opacity)
            colours, inverse = np.unique(blended[where], axis=0, return_inverse=True)
            result[where] = candidates[_nearest(colours, palette[candidates])][inverse.ravel()]
        return result

    def _palette_alpha(self) -> NDArray[np.uint8]:
        """Alpha of each of 256 palette indices."""
        alpha = np.full(256, 255, np.uint8)
        transparency = self.metadata.get("transparency", b"")
        if isinstance(transparency, bytes):
            alpha[: len(transparency)] = np.frombuffer(transparency, np.uint8)
        else:
            alpha[transparency] = 0
        return alpha


def matched(pixels: NDArray[np.uint8], source: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``pixels`` with colours that meet those of ``source`` at the border of ``inside``.

    The difference ``source - pixels`` outside continues into the mask as a solution of Laplace's equation (Perez et
    al., "Poisson Image Editing", 2003, eq. 4). The iteration starts at 0 and stops early, so that it fades out within
    some 6 pixels and the colours of what was generated stay. A difference far above ``EDGE`` is an object that the
    border cuts; it stays as it is, so that thin masks keep what they show.

    Args:
        pixels: RGB uint8 [H, W, 3], a generated image.
        source: RGB uint8 [H, W, 3], the image around it.
        inside: [H, W], where ``pixels`` will replace ``source``; outside of it they are returned as they are.
    """
    box = extent(inside.astype(np.float32))
    if box is None or inside.all():
        return pixels
    height, width = inside.shape
    rows = slice(max(round(box[1] * height) - 1, 0), round(box[3] * height) + 1)
    columns = slice(max(round(box[0] * width) - 1, 0), round(box[2] * width) + 1)
    own, mask = pixels[rows, columns].astype(np.float32), inside[rows, columns, None]
    difference = source[rows, columns] - own
    difference *= np.clip(2 - np.abs(difference).max(2, keepdims=True) / EDGE, 0, 1)
    difference[inside[rows, columns]] = 0
    for _ in range(ITERATIONS):
        near = np.pad(difference, ((1, 1), (1, 1), (0, 0)), "edge")
        mean = (near[:-2, 1:-1] + near[2:, 1:-1] + near[1:-1, :-2] + near[1:-1, 2:]) / 4
        difference = np.where(mask, mean, difference)
    result = pixels.copy()
    result[rows, columns] = np.where(mask, (own + difference).round().clip(0, 255), own).astype(np.uint8)
    return result


def difference_outside(before: Image.Image, after: Image.Image, mask: Mask) -> int:
    """The largest difference between two stored images of the same mode where ``mask`` [H, W] (upright) is 0.

    In units of the mode's values, 0 to 255 (65535 for I;16). Palette images are compared by colours and alpha.
    """
    first, second = (_comparable(turned_upright(image, orientation(image))) for image in (before, after))
    difference = np.abs(first.astype(np.int64) - second.astype(np.int64))[mask == 0]
    return int(difference.max(initial=0))


def _comparable(upright: Image.Image) -> NDArray[Any]:
    if upright.mode == "P":
        return np.asarray(upright.convert("RGBA"))
    return np.asarray(upright.convert("L") if upright.mode == "1" else upright)


def rgb_pixels(upright: Image.Image) -> NDArray[np.uint8]:
    """Convert an image of any of MODES to uint8 [H, W, 3], without alpha. The colour profile is not applied."""
    if upright.mode == "I;16":
        grey = np.rint(np.asarray(upright) / 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    # Through RGBA, because Pillow warns when it drops the alpha of a palette.
    return np.array(upright.convert("RGBA").convert("RGB") if upright.mode == "P" else upright.convert("RGB"))


def _blended(below: NDArray[Any], above: NDArray[Any], mask: Mask) -> NDArray[Any]:
    weight = mask.astype(np.float64) if below.ndim == 2 else mask.astype(np.float64)[..., None]
    return np.rint(below + weight * (above.astype(np.float64) - below)).astype(below.dtype)


def _all_channels(equal: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.logical_and.reduce(np.atleast_3d(equal), axis=2)


def _nearest(colours: NDArray[Any], palette: NDArray[Any]) -> NDArray[np.intp]:
    """Index of the nearest palette entry [P, 3] for each of the colours [N, 3]."""
    # |c - p|^2 without the term that is the same for all p: a matrix product instead of an array [N, P, 3].
    scores = (palette.astype(np.float64) ** 2).sum(axis=1) - 2 * colours.astype(np.float64) @ palette.T
    return scores.argmin(axis=1)
