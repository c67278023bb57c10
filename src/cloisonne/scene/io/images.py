"""Opens given images and masks. Size and format are checked before anything is decoded."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from cloisonne.errors import ImageError
from cloisonne.scene.io.colour_space import cicp_of
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.quiet import without_warnings
from cloisonne.scene.shapes.masks import Mask

MAX_PIXELS = 64_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transpose that turns an image with this EXIF orientation upright."""


def opened(picture: ImageRef, role: str, region: str | None = None, *, exact: bool = False) -> Image.Image:
    """Decode an image in its own mode and orientation.

    Args:
        picture: the image to open.
        role: what messages call the image, such as "mask".
        region: name of the region that messages are about.
        exact: refuse images that lose precision when decoded (16 bits per colour channel).

    Raises:
        ImageError: the image is missing, damaged, animated, larger than MAX_PIXELS or in none of FORMATS.
    """
    with _image_errors(picture, role, region):
        data = picture.read()
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        subject = f"The {role} {picture}"
        if image.width * image.height > MAX_PIXELS:
            size = f"{image.width} x {image.height} pixels"
            raise ImageError(
                f"{subject} has {size}, but at most {MAX_PIXELS // 10**6} megapixels are allowed; shrink it."
            )
        # A phone's JPEG may contain a second image (MPO), which is no animation.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise ImageError(f"{subject} is animated; give a single image, such as its first frame.")
        if exact and image.format == "PNG" and image.mode != "I;16" and str(image.tile[0][3]).endswith(";16B"):
            raise ImageError(f"{subject} has 16 bits per colour channel; convert it to 8 bits.")
        image.load()
        # Pillow parses and caches EXIF here, so that damaged EXIF also raises ImageError.
        image.getexif()
        if image.format == "PNG" and (cicp := cicp_of(data)) is not None:
            image.info["cicp"] = cicp
    return image


@contextmanager
def _image_errors(picture: ImageRef, role: str, region: str | None) -> Iterator[None]:
    try:
        with without_warnings():
            yield
    except ImageError as error:
        raise ImageError(str(error), region=region) from None
    except UnidentifiedImageError:
        known = "PNG, JPEG, WebP, BMP or GIF"
        raise ImageError(f"The {role} {picture} is not an image; give a {known} file.", region=region) from None
    except Image.DecompressionBombError:
        limit = f"{MAX_PIXELS // 10**6} megapixels"
        raise ImageError(f"The {role} {picture} has more than {limit}; shrink it.", region=region) from None
    # Decoders raise all kinds of exceptions for damaged files.
    except Exception as error:
        raise ImageError(
            f"The {role} {picture} is damaged ({error}); save it again from its original.", region=region
        ) from None


def open_rgb(picture: ImageRef, role: str, region: str | None = None) -> Image.Image:
    """Open an image upright, in RGB, with transparent pixels on white. Errors name ``role`` and ``region``."""
    stored = opened(picture, role, region)
    image = turned_upright(stored, orientation(stored))
    if image.mode.startswith("I"):
        # 16-bit grey, which Pillow's own conversion would clip.
        image = Image.fromarray(np.rint(np.asarray(image).astype(np.float64) / 257).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 (upright) if it is missing or invalid."""
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in _TURNS else 1


def turned_upright(image: Image.Image, turn: int) -> Image.Image:
    """Turn an image with EXIF orientation ``turn`` upright."""
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def turned_back(image: Image.Image, turn: int) -> Image.Image:
    """Turn an upright image to EXIF orientation ``turn``: the inverse of :func:`turned_upright`."""
    return turned_upright(image, {6: 8, 8: 6}.get(turn, turn))


def mask_image(picture: ImageRef, region: str | None = None) -> Image.Image:
    """Open a mask upright as L, LA or I;16, without metadata: white is the region, transparent is outside."""
    image = opened(picture, "mask", region)
    image = turned_upright(image, orientation(image))
    if image.mode != "I;16":
        transparent = "A" in image.getbands() or "transparency" in image.info
        image = image.convert("RGBA").convert("LA") if transparent else image.convert("L")
    image.info = {}
    return image


def mask_values(image: Image.Image) -> Mask:
    """The values [h, w] in [0, 1] of a mask of mode L, LA or I;16."""
    pixels = np.asarray(image)
    if image.mode == "LA":
        luminance, alpha = np.moveaxis(pixels.astype(np.float32) / np.float32(255), -1, 0)
        return luminance * alpha
    return pixels.astype(np.float32) / np.float32(65535 if image.mode == "I;16" else 255)


def load_mask(picture: ImageRef, region: str | None = None) -> Mask:
    """Open a mask as values [h, w] in [0, 1], at its own size."""
    return mask_values(mask_image(picture, region))
